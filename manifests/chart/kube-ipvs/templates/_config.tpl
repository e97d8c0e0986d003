{{/* SPDX-License-Identifier: Apache-2.0 */}}

{{/* Refuses values that contradict each other. values.schema.json refuses single ones. */}}
{{- define "kube-ipvs.check" -}}
{{- $proxy := .Values.kubeProxyConfiguration -}}
{{- $own := .Values.kubeIPVSConfiguration -}}
{{- $kubeconfig := dig "clientConnection" "kubeconfig" "" $proxy -}}
{{- range $field, $value := dict "clusterCIDR" "clusterCIDR" "healthzBindAddress" "healthz.port" "metricsBindAddress" "metrics" -}}
  {{- if hasKey $proxy $field -}}
    {{- fail (printf "kubeProxyConfiguration.%s: set the value %s of the chart in its place" $field $value) -}}
  {{- end -}}
{{- end -}}
{{- range $field := list "apiServers" "firewall" -}}
  {{- if hasKey $own $field -}}
    {{- fail (printf "kubeIPVSConfiguration.%s: set the value %[1]s of the chart in its place" $field) -}}
  {{- end -}}
{{- end -}}
{{- if .Values.existingConfigMap.name -}}
  {{- if $proxy -}}
    {{- fail "kubeProxyConfiguration: existingConfigMap is set, which has kube-proxy's configuration: change it there" -}}
  {{- end -}}
  {{- if .Values.clusterCIDR -}}
    {{- fail "clusterCIDR: existingConfigMap is set, which has kube-proxy's configuration: change it there" -}}
  {{- end -}}
{{- else if not (or .Values.apiServers .Values.apiServer.host $kubeconfig $own.master) -}}
  {{- fail "apiServers: name IP:port of every API server, as in --set 'apiServers={192.0.2.10:6443}'. A node must reach them before any Service works, kubernetes.default too. apiServer.host takes a name" -}}
{{- end -}}
{{- end }}

{{/* The fields of our own document that the values set. */}}
{{- define "kube-ipvs.own" -}}
{{- $own := dict -}}
{{- with .Values.apiServers }}{{ $_ := set $own "apiServers" . }}{{ end -}}
{{- with .Values.firewall }}{{ $_ := set $own "firewall" . }}{{ end -}}
{{- toYaml (mergeOverwrite $own (deepCopy .Values.kubeIPVSConfiguration)) -}}
{{- end }}

{{/* Our own document. */}}
{{- define "kube-ipvs.settings" -}}
{{- $base := dict "apiVersion" "kube-ipvs.io/v1alpha1" "kind" "KubeIPVSConfiguration" -}}
{{- if not .Values.existingConfigMap.name -}}
  {{- $_ := set $base "snapshot" (dict "file" "/var/lib/kube-ipvs/snapshot") -}}
{{- end -}}
{{- toYaml (mergeOverwrite $base (include "kube-ipvs.own" . | fromYaml)) -}}
{{- end }}

{{/* kube-proxy's document. */}}
{{- define "kube-ipvs.proxy" -}}
{{- $base := dict "apiVersion" "kubeproxy.config.k8s.io/v1alpha1" "kind" "KubeProxyConfiguration" "mode" "ipvs" -}}
{{- $_ := set $base "metricsBindAddress" (include "kube-ipvs.listener" (list .Values.metrics.bindAddress .Values.metrics.port)) -}}
{{- $_ := set $base "clusterCIDR" .Values.clusterCIDR -}}
{{- if ne (int .Values.healthz.port) 10256 -}}
  {{- $_ := set $base "healthzBindAddress" (include "kube-ipvs.listener" (list "0.0.0.0" .Values.healthz.port)) -}}
{{- end -}}
{{- toYaml (mergeOverwrite $base (deepCopy .Values.kubeProxyConfiguration)) -}}
{{- end }}

{{/* An address and a port. */}}
{{- define "kube-ipvs.listener" -}}
{{- $address := index . 0 -}}
{{ if contains ":" $address }}[{{ $address }}]{{ else }}{{ $address }}{{ end }}:{{ index . 1 | int }}
{{- end }}

{{/* The flags that say where the configuration is, as a list. */}}
{{- define "kube-ipvs.flags" -}}
{{- $flags := list -}}
{{- with .Values.existingConfigMap -}}
  {{- if .name -}}
    {{- $flags = append $flags (printf "--config=%s/%s" .mountPath .key) -}}
    {{- if include "kube-ipvs.own" $ | fromYaml -}}
      {{- $flags = append $flags "--settings=/etc/kube-ipvs/settings.yaml" -}}
    {{- end -}}
  {{- else -}}
    {{- $flags = append $flags "--config=/etc/kube-ipvs/config.yaml" -}}
  {{- end -}}
{{- end -}}
{{- $flags = append $flags "--hostname-override=$(NODE_NAME)" -}}
{{- if .Values.existingConfigMap.name -}}
  {{- /* kube-proxy uses the same ConfigMap, perhaps with another mode. */ -}}
  {{- $flags = append $flags "--proxy-mode=ipvs" -}}
{{- end -}}
{{- toYaml (concat $flags .Values.extraArgs) -}}
{{- end }}

{{/* Whether the chart makes a ConfigMap. */}}
{{- define "kube-ipvs.makesConfigMap" -}}
{{- if or (not .Values.existingConfigMap.name) (include "kube-ipvs.own" . | fromYaml) }}true{{ end -}}
{{- end }}
