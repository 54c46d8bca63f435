{{- define "blip-serve.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{- /* At most 50 characters, so that suffixes such as -headless fit into a DNS label. */ -}}
{{- define "blip-serve.fullname" -}}
{{- $name := include "blip-serve.name" . -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "blip-serve.selector" -}}
app.kubernetes.io/name: {{ include "blip-serve.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: server
{{- end }}

{{- define "blip-serve.labels" -}}
app.kubernetes.io/name: {{ include "blip-serve.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "blip-serve.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default (printf "%s-%s" $.Chart.AppVersion (ternary "cuda" "cpu" $.Values.gpu.enabled)) .tag }}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "blip-serve.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "blip-serve.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end -}}
{{- end }}

{{- define "blip-serve.keysSecret" -}}
{{- if .Values.auth.existingSecret -}}
{{ .Values.auth.existingSecret }}
{{- else if .Values.auth.keys -}}
{{ include "blip-serve.fullname" . }}-keys
{{- end -}}
{{- end }}

{{- define "blip-serve.tlsSecret" -}}
{{ default (printf "%s-tls" (include "blip-serve.fullname" .)) .Values.tls.existingSecret }}
{{- end }}

{{- define "blip-serve.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "blip-serve.restrictedPod" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- /* model.source if it names a model of the hub: org/name[@revision]. */ -}}
{{- define "blip-serve.hubModel" -}}
{{- if regexMatch "^[A-Za-z0-9_][^/]*/[^/@]+(@.+)?$" .Values.model.source }}{{ .Values.model.source }}{{ end -}}
{{- end }}
