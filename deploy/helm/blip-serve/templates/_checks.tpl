{{- /* Rejects conflicting values, which a schema cannot. Messages name the values to set. */ -}}
{{- define "blip-serve.checks" -}}
{{- $auth := .Values.auth -}}
{{- $tls := .Values.tls -}}
{{- if not (or $auth.insecure $auth.keys $auth.existingSecret $tls.clientCa) -}}
{{- fail "\n\nno authentication is configured for pods that listen on all addresses: set auth.keys, auth.existingSecret or tls.clientCa, or auth.insecure=true to admit all clients\n" -}}
{{- end -}}
{{- if and $auth.keys $auth.existingSecret -}}
{{- fail "auth.keys and auth.existingSecret are both set: set one of them" -}}
{{- end -}}
{{- if and $tls.clientCa (not $tls.enabled) -}}
{{- fail "tls.clientCa requires tls.enabled=true" -}}
{{- end -}}
{{- if and $tls.enabled (not (or $tls.existingSecret $tls.certManager.enabled)) -}}
{{- fail "tls.enabled requires a certificate: set tls.existingSecret, or tls.certManager.enabled with its issuer" -}}
{{- end -}}
{{- if and $tls.certManager.enabled (not $tls.certManager.issuer.name) -}}
{{- fail "tls.certManager.enabled requires tls.certManager.issuer.name" -}}
{{- end -}}
{{- if and $tls.enabled (eq .Values.probes.kind "grpc") -}}
{{- fail "probes.kind=grpc does not work with tls.enabled, because the kubelet has no TLS for gRPC probes: set probes.kind=http" -}}
{{- end -}}
{{- if and .Values.hpa.enabled .Values.keda.enabled -}}
{{- fail "hpa.enabled and keda.enabled are both true: enable one of them" -}}
{{- end -}}
{{- if and .Values.keda.enabled (eq (int .Values.keda.minReplicas) 0) (not .Values.keda.extraTriggers) -}}
{{- fail "keda.minReplicas=0 requires keda.extraTriggers: without pods no queue metric exists" -}}
{{- end -}}
{{- if and (eq (toString .Values.rollout.maxSurge) "0") (eq (toString .Values.rollout.maxUnavailable) "0") -}}
{{- fail "rollout.maxSurge and rollout.maxUnavailable are both 0: at least one must be positive" -}}
{{- end -}}
{{- if and .Values.grpcRoute.enabled (not .Values.grpcRoute.parentRefs) -}}
{{- fail "grpcRoute.enabled requires grpcRoute.parentRefs" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.enabled requires httpRoute.parentRefs" -}}
{{- end -}}
{{- /* A listener of a gateway accepts one kind of route for a name, the older one. */ -}}
{{- if and .Values.grpcRoute.enabled .Values.httpRoute.enabled -}}
{{- $names := .Values.httpRoute.hostnames -}}
{{- $shared := not (and .Values.grpcRoute.hostnames $names) -}}
{{- range .Values.grpcRoute.hostnames }}{{ if has . $names }}{{ $shared = true }}{{ end }}{{ end -}}
{{- range .Values.grpcRoute.parentRefs }}
{{- if and $shared (has . $.Values.httpRoute.parentRefs) -}}
{{- fail "grpcRoute and httpRoute have the same parent and share a hostname, but a gateway accepts one of them: set different grpcRoute.hostnames and httpRoute.hostnames" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $reserved := list "config" "tmp" "keys" "tls" "model" -}}
{{- range .Values.extraVolumes }}
{{- if has .name $reserved -}}
{{- fail (printf "extraVolumes has the name %s, which the chart uses: choose a name other than %s" .name (join ", " $reserved)) -}}
{{- end -}}
{{- end -}}
{{- range .Values.extraContainers }}
{{- if has .name (list "blip-serve" "prefetch") -}}
{{- fail (printf "extraContainers has the name %s, which the chart uses: choose another name" .name) -}}
{{- end -}}
{{- end -}}
{{- $cache := .Values.model.cache -}}
{{- if and (eq $cache.kind "existingClaim") (not $cache.existingClaim) -}}
{{- fail "model.cache.kind=existingClaim requires model.cache.existingClaim" -}}
{{- end -}}
{{- if and (eq $cache.kind "image") (not $cache.image) -}}
{{- fail "model.cache.kind=image requires model.cache.image" -}}
{{- end -}}
{{- if and (eq $cache.kind "image") (semverCompare "<1.33-0" .Capabilities.KubeVersion.Version) -}}
{{- fail "model.cache.kind=image requires Kubernetes 1.33 or later, which enables image volumes by default" -}}
{{- end -}}
{{- if and (ne .Values.model.source "demo") (eq $cache.kind "none") -}}
{{- fail (printf "model.source=%s is not embedded in the program: set model.cache.kind to the volume that holds it" .Values.model.source) -}}
{{- end -}}
{{- $prefetch := .Values.model.prefetch -}}
{{- if $prefetch.enabled -}}
{{- if not (has $cache.kind (list "pvc" "existingClaim")) -}}
{{- fail "model.prefetch requires a writable volume: set model.cache.kind to pvc or existingClaim" -}}
{{- end -}}
{{- if ne (empty $prefetch.image) (empty $prefetch.command) -}}
{{- fail "model.prefetch.image and model.prefetch.command must be set together: set both, or neither to download with blip-serve" -}}
{{- end -}}
{{- if not (or $prefetch.command (include "blip-serve.hubModel" .)) -}}
{{- fail (printf "model.prefetch.enabled cannot download model.source=%s: set it to a model of the hub, for example Salesforce/blip-vqa-base, or set model.prefetch.image and model.prefetch.command" .Values.model.source) -}}
{{- end -}}
{{- end -}}
{{- end }}
