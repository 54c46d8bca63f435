{{- /* The server's settings as TOML: the values' sections, and above them what the chart itself decides. A JSON text,
       number or list is a TOML one, too, and JSON writes no 6.7108864e+07 as toToml does. */ -}}
{{- define "blip-serve.config" -}}
{{- $own := dict
      "model" (dict "source" .Values.model.source)
      "grpc" (dict "listen" (printf "0.0.0.0:%d" (int .Values.ports.grpc)))
      "http" (dict "listen" (printf "0.0.0.0:%d" (int .Values.ports.http)))
      "metrics" (dict "listen" (printf "0.0.0.0:%d" (int .Values.ports.metrics)))
      "auth" (dict "insecure" .Values.auth.insecure)
      "tls" dict -}}
{{- if include "blip-serve.keysSecret" . -}}
{{- $_ := set $own.auth "keys_file" (printf "/etc/blip-serve/keys/%s" .Values.auth.secretKey) -}}
{{- end -}}
{{- if .Values.tls.enabled -}}
{{- $_ := set $own.tls "cert_file" "/etc/blip-serve/tls/tls.crt" -}}
{{- $_ := set $own.tls "key_file" "/etc/blip-serve/tls/tls.key" -}}
{{- if .Values.tls.clientCa -}}
{{- $_ := set $own.tls "client_ca_file" "/etc/blip-serve/tls/ca.crt" -}}
{{- end -}}
{{- end -}}
{{- /* A GPU that was asked for is used or missed aloud; a pod without one never looks for it. */ -}}
{{- $device := dict "model" (dict "device" (ternary "cuda" "cpu" .Values.gpu.enabled)) -}}
{{- $all := mergeOverwrite $device (deepCopy .Values.config) $own -}}
{{- range $section, $settings := $all }}
{{- if $settings }}
[{{ $section }}]
{{- range $name, $value := $settings }}
{{- if not (kindIs "invalid" $value) }}
{{ $name }} = {{ toJson $value }}
{{- end }}
{{- end }}
{{ end }}
{{- end }}
{{- end }}

{{- /* A keys file, as docs/configuration.md has it. */ -}}
{{- define "blip-serve.keysFile" -}}
{{- range .Values.auth.keys }}
[[keys]]
{{- range $name, $value := . }}
{{ $name }} = {{ toJson $value }}
{{- end }}
{{ end }}
{{- end }}

{{- define "blip-serve.gracePeriod" -}}
{{- $drain := .Values.config.drain -}}
{{ add (int $drain.grace_s) (int $drain.limit_s) (int .Values.terminationSlackSeconds) }}
{{- end }}

{{- /* The port that spans are sent to; empty where there are none. */ -}}
{{- define "blip-serve.tracesPort" -}}
{{- with (default dict .Values.config.trace).otlp_endpoint -}}
{{- $url := urlParse . -}}
{{- $port := regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) -}}
{{- default (ternary "443" "80" (eq $url.scheme "https")) $port -}}
{{- end -}}
{{- end }}
