{{- /* The resource, its spec and its status come first. */ -}}
{{- define "gvDetails" -}}
{{- range .SortedTypes }}{{ if hasPrefix "MCPServer" .Name }}{{ template "type" . }}{{ end }}{{ end -}}
{{- range .SortedTypes }}{{ if not (hasPrefix "MCPServer" .Name) }}{{ template "type" . }}{{ end }}{{ end -}}
{{- end -}}
