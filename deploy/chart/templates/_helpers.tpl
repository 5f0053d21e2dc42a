{{/*
The names are the same in every release. A release with shared.enabled owns the objects that a cluster has once, so Helm refuses a second such
release. Further releases, each in a namespace of its own, have shared.enabled off, and the names of namespaces whose MCPServers they run.
Two operators must not manage the same namespace: they would write the same StatefulSets under the same field manager. If both releases have the
namespace in their value namespaces, Helm refuses the second one, because the RoleBinding in the namespace belongs to the first, unless
--take-ownership skips this check. other_releases.yaml refuses a release for some namespaces beside a release for all.
*/}}

{{/* Whether this release has the objects that a cluster has once. */}}
{{- define "mcpserver-operator.shared" -}}
{{- $shared := .Values.shared | default dict }}
{{- if ne (toString $shared.enabled) "false" }}true{{- end }}
{{- end }}

{{/* The labels by which the Deployment and the Service find the pods. They cannot change between versions. */}}
{{- define "mcpserver-operator.selectorLabels" -}}
app.kubernetes.io/name: mcpserver-operator
{{- end }}

{{- define "mcpserver-operator.labels" -}}
{{ include "mcpserver-operator.selectorLabels" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/*
The objects of a file in files/, with the labels and the namespace of the release, and the given annotations and labels. These files are copies of
those that kubectl apply -k deploy installs, made by "make generate", because Helm reads no file outside of the chart. They are
read as data, not as templates: what looks like one in the description of a field is text.
*/}}
{{- define "mcpserver-operator.copied" -}}
{{- $metadata := dict "labels" (merge (include "mcpserver-operator.labels" .root | fromYaml) (.labels | default dict)) }}
{{- with .annotations }}
{{- $metadata = set $metadata "annotations" . }}
{{- end }}
{{- $content := .root.Files.Get .file | replace "mcpserver-operator-system" .root.Release.Namespace }}
{{- range regexSplit "(?m)^---$" $content -1 }}
{{- with fromYaml . }}
---
{{ merge (dict "metadata" (deepCopy $metadata)) . | toYaml }}
{{- end }}
{{- end }}
{{- end }}

{{- define "mcpserver-operator.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{/* The ServiceAccount as the subject of a binding. */}}
{{- define "mcpserver-operator.subject" -}}
kind: ServiceAccount
name: mcpserver-operator
namespace: {{ .Release.Namespace }}
{{- end }}
