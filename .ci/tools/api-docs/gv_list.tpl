{{- define "gvList" -}}
# API reference

The fields of an MCPServer in the version `v1beta1` of the group `toolhive.stacklok.dev`. The version `v1alpha1` has the same fields.
`kubectl explain mcpserver.spec` prints the same descriptions, and [manifests.md](manifests.md) explains how to use the fields.
{{ range . }}{{ template "gvDetails" . }}{{ end }}
{{- end -}}
