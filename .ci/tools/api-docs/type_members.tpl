{{- /* The lines of a comment are not those of the page. Only an empty line separates paragraphs. */ -}}
{{- define "type_members" -}}
{{- if eq .Name "metadata" -}}
As in every object of Kubernetes.
{{- else -}}
{{ regexReplaceAll "([^\n])\n([^\n])" .Doc "${1} ${2}" | markdownRenderFieldDoc }}
{{- end -}}
{{- end -}}
