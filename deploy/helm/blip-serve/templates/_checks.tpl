{{- /* What no schema can say: values that contradict each other. Each message names what to set. */ -}}
{{- define "blip-serve.checks" -}}
{{- $auth := .Values.auth -}}
{{- $tls := .Values.tls -}}
{{- if not (or $auth.insecure $auth.keys $auth.existingSecret $tls.clientCa) -}}
{{- fail "\n\nwho may call? pods listen on all addresses: set auth.keys, auth.existingSecret or tls.clientCa, or auth.insecure=true to let everyone in the cluster ask\n" -}}
{{- end -}}
{{- if and $auth.keys $auth.existingSecret -}}
{{- fail "auth.keys and auth.existingSecret are both set: set one of them" -}}
{{- end -}}
{{- if and $tls.clientCa (not $tls.enabled) -}}
{{- fail "tls.clientCa needs tls.enabled=true" -}}
{{- end -}}
{{- if and $tls.enabled (not (or $tls.existingSecret $tls.certManager.enabled)) -}}
{{- fail "tls.enabled needs a certificate: set tls.existingSecret, or tls.certManager.enabled with its issuer" -}}
{{- end -}}
{{- if and $tls.certManager.enabled (not $tls.certManager.issuer.name) -}}
{{- fail "tls.certManager.enabled needs tls.certManager.issuer.name" -}}
{{- end -}}
{{- if and $tls.enabled (eq .Values.probes.kind "grpc") -}}
{{- fail "probes.kind=grpc cannot be used with tls.enabled, the kubelet speaks no TLS there: leave it at http" -}}
{{- end -}}
{{- if and .Values.hpa.enabled .Values.keda.enabled -}}
{{- fail "hpa.enabled and keda.enabled are both true: one of them scales" -}}
{{- end -}}
{{- if and .Values.keda.enabled (eq (int .Values.keda.minReplicas) 0) (not .Values.keda.extraTriggers) -}}
{{- fail "keda.minReplicas=0 needs keda.extraTriggers: without a pod there is no queue to measure" -}}
{{- end -}}
{{- if and (eq (toString .Values.rollout.maxSurge) "0") (eq (toString .Values.rollout.maxUnavailable) "0") -}}
{{- fail "rollout.maxSurge and rollout.maxUnavailable are both 0: no rollout could begin" -}}
{{- end -}}
{{- if and .Values.grpcRoute.enabled (not .Values.grpcRoute.parentRefs) -}}
{{- fail "grpcRoute.enabled needs grpcRoute.parentRefs" -}}
{{- end -}}
{{- $cache := .Values.model.cache -}}
{{- if and (eq $cache.kind "existingClaim") (not $cache.existingClaim) -}}
{{- fail "model.cache.kind=existingClaim needs model.cache.existingClaim" -}}
{{- end -}}
{{- if and (eq $cache.kind "image") (not $cache.image) -}}
{{- fail "model.cache.kind=image needs model.cache.image" -}}
{{- end -}}
{{- if and (eq $cache.kind "image") (semverCompare "<1.33-0" .Capabilities.KubeVersion.Version) -}}
{{- fail "model.cache.kind=image needs Kubernetes 1.33, where pods first have image volumes by default" -}}
{{- end -}}
{{- if and (ne .Values.model.source "demo") (eq $cache.kind "none") -}}
{{- fail (printf "model.source=%s is not inside the program, so model.cache.kind must say where it is kept" .Values.model.source) -}}
{{- end -}}
{{- $prefetch := .Values.model.prefetch -}}
{{- if $prefetch.enabled -}}
{{- if not (has $cache.kind (list "pvc" "existingClaim")) -}}
{{- fail "model.prefetch needs a volume to write to: set model.cache.kind to pvc or existingClaim" -}}
{{- end -}}
{{- if ne (empty $prefetch.image) (empty $prefetch.command) -}}
{{- fail "model.prefetch.image and model.prefetch.command come together: set both, or neither to download with blip-serve itself" -}}
{{- end -}}
{{- if not (or $prefetch.command (include "blip-serve.hubModel" .)) -}}
{{- fail (printf "model.prefetch.enabled cannot download model.source=%s: name a model of the hub, such as Salesforce/blip-vqa-base, or set model.prefetch.image and model.prefetch.command" .Values.model.source) -}}
{{- end -}}
{{- end -}}
{{- end }}
