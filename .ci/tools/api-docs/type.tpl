{{- define "type" -}}
{{- if markdownShouldRenderType . }}
## {{ .Name }}

{{ .Doc }}
{{- if and .References (not .GVK) }}

Appears in {{ range $i, $type := .SortedReferences }}{{ if $i }}, {{ end }}{{ markdownRenderTypeLink $type }}{{ end }}.
{{- end }}
{{ if .Members }}
| Field | Description | Default and limits |
| --- | --- | --- |
{{ if .GVK -}}
| `apiVersion` _string_ | `{{ .GVK.Group }}/{{ .GVK.Version }}` | |
| `kind` _string_ | `{{ .GVK.Kind }}` | |
{{ end -}}
{{ range .Members -}}
| `{{ .Name }}` _{{ regexReplaceAll "\\[RawExtension\\]\\(.*\\)" (markdownRenderType .Type) "object" }}_{{ if has "Required: {}" .Validation }}, required{{ end }} | {{ template "type_members" . }} | {{ template "limits" . }} |
{{ end -}}
{{ end -}}
{{ if .EnumValues }}
| Value | Description |
| --- | --- |
{{ range .EnumValues -}}
| `{{ .Name }}` | {{ template "value" .Doc }} |
{{ end -}}
{{ end -}}
{{ end -}}
{{ end -}}

{{- define "limits" -}}
{{- $limits := list -}}
{{- if .Default }}{{ $limits = append $limits (printf "Default: %s" (markdownRenderDefault .Default)) }}{{ end -}}
{{- range .Validation }}{{ if not (or (hasSuffix ": {}" .) (hasPrefix "Type: " .)) }}{{ $limits = append $limits (markdownRenderFieldDoc .) }}{{ end }}{{ end -}}
{{- join "<br />" $limits -}}
{{- end -}}

{{- /* The comment of a Go constant begins with its name. */ -}}
{{- define "value" -}}
{{- $text := regexReplaceAll "\\s*\n\\s*" (regexReplaceAll "^[A-Z][A-Za-z]+ (is )?" (trim .) "") " " -}}
{{- upper (substr 0 1 $text) }}{{ substr 1 -1 $text | markdownRenderFieldDoc }}
{{- end -}}
