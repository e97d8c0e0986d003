{{/* SPDX-License-Identifier: Apache-2.0 */}}

{{- define "kube-ipvs.env" -}}
- name: NODE_NAME
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
{{- with .Values.apiServer }}
{{- if .host }}
# In place of the Service kubernetes.default, which is not there yet.
- name: KUBERNETES_SERVICE_HOST
  value: {{ .host | quote }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ .port | quote }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The mounts of both containers. */}}
{{- define "kube-ipvs.mounts" -}}
- {name: xtables-lock, mountPath: /run/xtables.lock}
- {name: sysctls, mountPath: /host/proc/sys/net}
{{- with .Values.existingConfigMap }}
{{- if .name }}
- {name: config, mountPath: {{ .mountPath | quote }}, readOnly: true}
{{- if include "kube-ipvs.makesConfigMap" $ }}
- {name: settings, mountPath: /etc/kube-ipvs, readOnly: true}
{{- end }}
{{- else }}
- {name: config, mountPath: /etc/kube-ipvs, readOnly: true}
{{- end }}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "kube-ipvs.volumes" -}}
# Shared with every program that runs iptables on this node.
- name: xtables-lock
  hostPath: {path: /run/xtables.lock, type: FileOrCreate}
# Container runtimes mount /proc/sys read-only in unprivileged containers, and allow no mount there.
- name: sysctls
  hostPath: {path: /proc/sys/net, type: Directory}
{{- if .Values.modules.load }}
- name: modules
  hostPath: {path: /lib/modules, type: Directory}
{{- end }}
# The snapshot: the last objects of the API server, for a start without it.
- name: state
  hostPath: {path: /var/lib/kube-ipvs, type: DirectoryOrCreate}
# The whole folder: a single file would never be updated.
- name: config
  configMap: {name: {{ .Values.existingConfigMap.name | default "kube-ipvs" }}}
{{- if and .Values.existingConfigMap.name (include "kube-ipvs.makesConfigMap" .) }}
- name: settings
  configMap: {name: kube-ipvs}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "kube-ipvs.init" -}}
# Does what needs more than the daemon may do, such as loading modules.
- name: init
  {{- include "kube-ipvs.pull" . | nindent 2 }}
  args:
  - run
  - --init-only
  {{- include "kube-ipvs.flags" . | nindent 2 }}
  env:
  {{- include "kube-ipvs.env" . | nindent 2 }}
  securityContext:
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities:
      drop: [ALL]
      add: [NET_ADMIN, NET_RAW{{ if .Values.modules.load }}, SYS_MODULE{{ end }}]
  resources:
    {{- toYaml .Values.resources | nindent 4 }}
  volumeMounts:
  {{- include "kube-ipvs.mounts" . | nindent 2 }}
  {{- if .Values.modules.load }}
  - {name: modules, mountPath: /lib/modules, readOnly: true}
  {{- end }}
{{- end }}

{{- define "kube-ipvs.daemon" -}}
- name: kube-ipvs
  {{- include "kube-ipvs.pull" . | nindent 2 }}
  args:
  - run
  {{- include "kube-ipvs.flags" . | nindent 2 }}
  {{- if and .Values.existingConfigMap.name (not (hasKey .Values.kubeIPVSConfiguration "snapshot")) }}
  - --snapshot-file=/var/lib/kube-ipvs/snapshot
  {{- end }}
  env:
  {{- include "kube-ipvs.env" . | nindent 2 }}
  ports:
  - {name: healthz, containerPort: {{ .Values.healthz.port | int }}}
  - {name: metrics, containerPort: {{ .Values.metrics.port | int }}}
  securityContext:
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    # NET_ADMIN: IPVS, sets, rules, addresses and network sysctls. NET_RAW: the raw socket of iptables.
    # SYS_RESOURCE: oomScoreAdj, which is lower than the value that the kubelet sets.
    capabilities: {drop: [ALL], add: [NET_ADMIN, NET_RAW, SYS_RESOURCE]}
  resources:
    {{- toYaml .Values.resources | nindent 4 }}
  # /livez fails if one round of work takes longer than ten sync periods and five minutes.
  livenessProbe:
    httpGet: {host: 127.0.0.1, port: healthz, path: /livez}
    {{- toYaml .Values.livenessProbe | nindent 4 }}
  # /healthz fails while the kernel does not follow the cluster, or the node is about to be removed. Then a rollout waits.
  readinessProbe:
    httpGet: {host: 127.0.0.1, port: healthz, path: /healthz}
    {{- toYaml .Values.readinessProbe | nindent 4 }}
  volumeMounts:
  {{- include "kube-ipvs.mounts" . | nindent 2 }}
  - {name: state, mountPath: /var/lib/kube-ipvs}
{{- end }}
