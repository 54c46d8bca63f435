{{- /* One probe: (dict "root" $ "path" "/readyz" "failures" 3). */ -}}
{{- define "blip-serve.probe" -}}
{{- if eq .root.Values.probes.kind "grpc" -}}
grpc: {port: {{ .root.Values.ports.grpc }}, service: {{ .service | quote }}}
{{- else -}}
httpGet: {path: {{ .path }}, port: metrics}
{{- end }}
periodSeconds: {{ .root.Values.probes.periodSeconds }}
timeoutSeconds: 3
failureThreshold: {{ .failures }}
{{- end }}

{{- /* gRPC reports one health status, which ends with the beginning of a drain. A draining pod must
       not be restarted, so the liveness probe then only checks that the port is open. */ -}}
{{- define "blip-serve.probes" -}}
{{- $probes := .Values.probes -}}
{{- $started := ceil (divf $probes.startupBudgetSeconds $probes.periodSeconds) -}}
startupProbe:
  {{- include "blip-serve.probe" (dict "root" . "path" "/healthz" "service" "" "failures" (int $started)) | nindent 2 }}
readinessProbe:
  {{- include "blip-serve.probe" (dict "root" . "path" "/readyz" "service" "blip.v1.BlipService" "failures" 1) | nindent 2 }}
livenessProbe:
  {{- if eq $probes.kind "grpc" }}
  tcpSocket: {port: grpc}
  periodSeconds: {{ $probes.periodSeconds }}
  timeoutSeconds: 3
  failureThreshold: {{ $probes.failureThreshold }}
  {{- else }}
  {{- include "blip-serve.probe" (dict "root" . "path" "/livez" "service" "" "failures" $probes.failureThreshold) | nindent 2 }}
  {{- end }}
{{- end }}
