{{/* What runs, by shape: its target and ports, whom it calls, whose database it uses, whether it signs tokens. */}}
{{- define "eventboard.components" -}}
{{- if eq .Values.shape "monolith" -}}
monolith: { target: all, port: 3000, admin: 3900, calls: [], databases: [auth, events], signs: true, public: true }
{{- else -}}
gateway: { target: gateway, port: 3000, admin: 3900, calls: [auth, events], databases: [], signs: false, public: true }
auth: { target: auth, port: 3001, admin: 3901, calls: [], databases: [auth], signs: true, public: false }
events: { target: events, port: 3002, admin: 3902, calls: [auth], databases: [events], signs: false, public: false }
{{- end }}
{{- end }}

{{/* By which a component's pods are found. Takes a dict: `root`, `name`, and for some `it`, the component. */}}
{{- define "eventboard.selector" -}}
app.kubernetes.io/name: eventboard
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .name }}
{{- end }}

{{- define "eventboard.labels" -}}
{{ include "eventboard.selector" . }}
app.kubernetes.io/version: {{ .root.Values.image.tag | default .root.Chart.AppVersion | quote }}
{{- end }}

{{- define "eventboard.metadata" -}}
name: {{ .root.Release.Name }}-{{ .name }}
namespace: {{ .root.Release.Namespace }}
labels: {{- include "eventboard.labels" . | nindent 2 }}
{{- end }}

{{- define "eventboard.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* The files of `it` from Secrets, with the variables that name them. */}}
{{- define "eventboard.files" -}}
{{- $wanted := list }}
{{- range .it.databases }}
{{- $wanted = append $wanted (list (printf "database%sUrl" (title .)) (printf "database-%s-url" .) (printf "DATABASE_%s_URL_FILE" (upper .))) }}
{{- end }}
{{- if .it.databases }}
{{- $wanted = append $wanted (list "databaseCa" "database-ca.crt" "") }}
{{- end }}
{{- if ne .it.target "all" }}{{ if ne .it.target "migrate" }}
{{- $wanted = append $wanted (list "serviceCredential" "service-credential" "RPC_CREDENTIAL_FILE") }}
{{- end }}{{ end }}
{{- if .it.signs }}
{{- $wanted = append $wanted (list "limitsStoreUrl" "limits-store-url" "LIMITS_STORE_URL_FILE") }}
{{- $wanted = append $wanted (list "mailPassword" "mail-password" "MAIL_PASSWORD_FILE") }}
{{- end }}
{{- range $wanted }}
{{- $secret := index $.root.Values.secrets (index . 0) }}
{{- if $secret.name }}
- { secret: {{ $secret.name | quote }}, key: {{ $secret.key | quote }}, file: {{ index . 1 }}, variable: {{ index . 2 | quote }} }
{{- end }}
{{- end }}
{{- end }}

{{/* The variables of `it`: a map. Those that the chart itself sets can't be set by the values. */}}
{{- define "eventboard.variables" -}}
{{- $mounted := "/run/secrets/eventboard" }}
{{- $own := dict "EVENTBOARD_ENVIRONMENT" "production" }}
{{- range include "eventboard.files" . | fromYamlArray }}
{{- if .variable }}{{ $_ := set $own (printf "EVENTBOARD_%s" .variable) (printf "%s/values/%s" $mounted .file) }}{{ end }}
{{- end }}
{{- if ne .it.target "migrate" }}
{{- $_ := set $own "EVENTBOARD_SERVER_PORT" (toString .it.port) }}
{{- $_ := set $own "EVENTBOARD_SERVER_ADMIN_PORT" (toString .it.admin) }}
{{- $_ := set $own "EVENTBOARD_SERVER_DRAIN" (toString .root.Values.stopping.drain) }}
{{- $_ := set $own "EVENTBOARD_SERVER_GRACE" (toString .root.Values.stopping.grace) }}
{{- end }}
{{- if .it.signs }}{{ $_ := set $own "EVENTBOARD_TOKENS_KEY_FILE" (printf "%s/keys" $mounted) }}{{ end }}
{{- $internal := and .root.Values.internalTls.enabled (ne .it.target "all") (ne .it.target "migrate") }}
{{- if $internal }}
{{- if .it.calls }}
{{- $_ := set $own "EVENTBOARD_RPC_TLS_CA" (printf "%s/tls/ca.crt" $mounted) }}
{{- $_ := set $own "EVENTBOARD_RPC_TLS_CERTIFICATE" (printf "%s/tls/tls.crt" $mounted) }}
{{- $_ := set $own "EVENTBOARD_RPC_TLS_KEY" (printf "%s/tls/tls.key" $mounted) }}
{{- end }}
{{- if not .it.public }}
{{- $_ := set $own "EVENTBOARD_SERVER_TLS_CERTIFICATE" (printf "%s/tls/tls.crt" $mounted) }}
{{- $_ := set $own "EVENTBOARD_SERVER_TLS_KEY" (printf "%s/tls/tls.key" $mounted) }}
{{- $_ := set $own "EVENTBOARD_SERVER_TLS_CLIENT_CA" (printf "%s/tls/ca.crt" $mounted) }}
{{- end }}
{{- end }}
{{- range .it.calls }}
{{- $port := get (dict "auth" 3001 "events" 3002) . }}
{{- $_ := set $own (printf "EVENTBOARD_PEERS_%s" (upper .)) (printf "%s://%s-%s:%d" (ternary "https" "http" $internal) $.root.Release.Name . $port) }}
{{- end }}
{{- if .it.public }}
{{- with .root.Values.trustedProxies }}{{ $_ := set $own "EVENTBOARD_SERVER_TRUSTED_PROXIES" . }}{{ end }}
{{- if .root.Values.gateway.tlsSecret }}
{{- $_ := set $own "EVENTBOARD_SERVER_TLS_CERTIFICATE" (printf "%s/public-tls/tls.crt" $mounted) }}
{{- $_ := set $own "EVENTBOARD_SERVER_TLS_KEY" (printf "%s/public-tls/tls.key" $mounted) }}
{{- end }}
{{- end }}
{{- with .root.Values.tracing.endpoint }}{{ $_ := set $own "OTEL_EXPORTER_OTLP_ENDPOINT" . }}{{ end }}
{{- $given := merge (dict) (.values.settings | default dict) .root.Values.settings }}
{{- range $name, $value := $given }}
{{- if hasKey $own $name }}
{{- fail (printf "settings: %s is set by the chart, from another value: see values.yaml" $name) }}
{{- end }}
{{- if and (regexMatch "(_URL|_CREDENTIAL|_PASSWORD|_KEY_FILE)$" $name) (ne $name "EVENTBOARD_SERVER_PUBLIC_URL") }}
{{- fail (printf "settings: %s is a secret: put it into a Secret, and name that in `secrets`" $name) }}
{{- end }}
{{- /* A number of YAML is a float here: 1000000 would become 1e+06. */}}
{{- if kindIs "float64" $value }}{{ if eq (floor $value) $value }}{{ $value = int64 $value }}{{ end }}{{ end }}
{{- $_ := set $own $name (toString $value) }}
{{- end }}
{{- toYaml $own }}
{{- end }}

{{/* What all pods have. */}}
{{- define "eventboard.pod" -}}
serviceAccountName: {{ .root.Release.Name }}-{{ .name }}
automountServiceAccountToken: false
# A Service's variables would look like settings.
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .root.Values.pods.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.pods.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.pods.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext:
  runAsNonRoot: true
  {{- with .root.Values.pods.user }}
  runAsUser: {{ int64 . }}
  runAsGroup: {{ int64 . }}
  # May read the Secrets' files.
  fsGroup: {{ int64 . }}
  {{- end }}
  seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "eventboard.container" -}}
image: {{ include "eventboard.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
env:
  {{- range $name, $value := include "eventboard.variables" . | fromYaml }}
  - { name: {{ $name }}, value: {{ $value | quote }} }
  {{- end }}
resources: {{- toYaml .values.resources | nindent 2 }}
volumeMounts:
  - { name: tmp, mountPath: /tmp }
  - { name: values, mountPath: /run/secrets/eventboard/values, readOnly: true }
  {{- if .it.signs }}
  - { name: keys, mountPath: /run/secrets/eventboard/keys, readOnly: true }
  {{- end }}
  {{- if and .root.Values.internalTls.enabled (hasKey .root.Values.internalTls .name) }}
  - { name: tls, mountPath: /run/secrets/eventboard/tls, readOnly: true }
  {{- end }}
  {{- if and .it.public .root.Values.gateway.tlsSecret }}
  - { name: public-tls, mountPath: /run/secrets/eventboard/public-tls, readOnly: true }
  {{- end }}
{{- end }}

{{- define "eventboard.volumes" -}}
- name: tmp
  emptyDir: { sizeLimit: 16Mi }
- name: values
  projected:
    defaultMode: 0440
    sources:
      {{- range include "eventboard.files" . | fromYamlArray }}
      - secret:
          name: {{ .secret }}
          items: [{ key: {{ .key | quote }}, path: {{ .file }} }]
      {{- end }}
{{- if .it.signs }}
- name: keys
  secret: { secretName: {{ .root.Values.secrets.signingKeys.name }}, defaultMode: 0440 }
{{- end }}
{{- if and .root.Values.internalTls.enabled (hasKey .root.Values.internalTls .name) }}
- name: tls
  secret: { secretName: {{ get .root.Values.internalTls .name }}, defaultMode: 0440 }
{{- end }}
{{- if and .it.public .root.Values.gateway.tlsSecret }}
- name: public-tls
  secret: { secretName: {{ .root.Values.gateway.tlsSecret }}, defaultMode: 0440 }
{{- end }}
{{- end }}
