{{- /* The settings of the server in TOML: the sections of the values, overridden by those that the
       chart sets. JSON strings, numbers and lists are valid TOML. toToml would write
       6.7108864e+07. */ -}}
{{- define "blip-serve.config" -}}
{{- $fixed := dict
      "model" (dict "source" .Values.model.source)
      "grpc" (dict "listen" (printf "0.0.0.0:%d" (int .Values.ports.grpc)))
      "http" (dict "listen" (printf "0.0.0.0:%d" (int .Values.ports.http)))
      "metrics" (dict "listen" (printf "0.0.0.0:%d" (int .Values.ports.metrics)))
      "auth" (dict "insecure" .Values.auth.insecure)
      "tls" dict -}}
{{- if include "blip-serve.keysSecret" . -}}
{{- $_ := set $fixed.auth "keys_file" (printf "/etc/blip-serve/keys/%s" .Values.auth.secretKey) -}}
{{- end -}}
{{- if .Values.tls.enabled -}}
{{- $_ := set $fixed.tls "cert_file" "/etc/blip-serve/tls/tls.crt" -}}
{{- $_ := set $fixed.tls "key_file" "/etc/blip-serve/tls/tls.key" -}}
{{- if .Values.tls.clientCa -}}
{{- $_ := set $fixed.tls "client_ca_file" "/etc/blip-serve/tls/ca.crt" -}}
{{- end -}}
{{- end -}}
{{- /* With gpu.enabled, the server fails without a GPU. Otherwise it searches for none. */ -}}
{{- $device := dict "model" (dict "device" (ternary "cuda" "cpu" .Values.gpu.enabled)) -}}
{{- $all := mergeOverwrite $device (deepCopy .Values.config) $fixed -}}
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

{{- /* A keys file, see docs/operations/configuration-guide.md. */ -}}
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
{{- $sleep := dig "preStop" "sleep" "seconds" 0 .Values.lifecycle -}}
{{ add (int $drain.grace_s) (int $drain.limit_s) (int $sleep) (int .Values.terminationSlackSeconds) }}
{{- end }}

{{- /* The port of the trace collector, or empty without one. */ -}}
{{- define "blip-serve.tracesPort" -}}
{{- with (default dict .Values.config.trace).otlp_endpoint -}}
{{- $url := urlParse . -}}
{{- $port := regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) -}}
{{- default (ternary "443" "80" (eq $url.scheme "https")) $port -}}
{{- end -}}
{{- end }}
