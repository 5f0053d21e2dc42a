package v1beta1

import (
	"slices"

	"k8s.io/apimachinery/pkg/runtime"
)

// The fields in this file belong to ToolHive's operator, which runs a proxy in front of each server. This operator accepts a field that has no
// effect without the proxy, and refuses a field that protects the server. It does not leave out such fields from the schema, because the API
// server drops unknown fields silently for many clients. The server would then run without the protection that its manifest asks for.

// ToolHiveFinalizer is the finalizer that ToolHive's operator sets on each MCPServer. If that operator no longer runs, nobody removes it.
const ToolHiveFinalizer = "mcpserver.toolhive.stacklok.dev/finalizer"

// IsOfToolHive reports whether ToolHive's operator is in charge of an MCPServer: it has set its finalizer, and nobody has taken the MCPServer
// over. This operator then writes only the status.
func (m *MCPServer) IsOfToolHive() bool {
	return m.DeletionTimestamp.IsZero() && slices.Contains(m.Finalizers, ToolHiveFinalizer)
}

// IgnoredFields are the fields of ToolHive's operator that have no effect. An admission policy returns a warning for each.
type IgnoredFields struct {
	// No effect: this operator has no groups of MCPServers. ToolHive's operator has them: a name, or an object with a name.
	// +optional
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:pruning:PreserveUnknownFields
	GroupRef *runtime.RawExtension `json:"groupRef,omitempty"`

	// No effect: ToolHive's proxy exports this telemetry. The server itself may export its own.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	TelemetryConfigRef *runtime.RawExtension `json:"telemetryConfigRef,omitempty"`

	// No effect: see telemetryConfigRef.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	Telemetry *runtime.RawExtension `json:"telemetry,omitempty"`

	// No effect: ToolHive's proxy stores its sessions there.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	SessionStorage *runtime.RawExtension `json:"sessionStorage,omitempty"`

	// No effect: ToolHive's proxy reads the headers of another proxy if this is true.
	// +optional
	TrustProxyHeaders *bool `json:"trustProxyHeaders,omitempty"`

	// No effect: ToolHive's proxy adds this prefix to the URLs of its SSE endpoints.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	EndpointPrefix *string `json:"endpointPrefix,omitempty"`
}

// IgnoredNames returns the names of the fields that are set and have no effect.
func (f *IgnoredFields) IgnoredNames() []string {
	var names []string
	for name, isSet := range map[string]bool{
		"groupRef":           f.GroupRef != nil,
		"telemetryConfigRef": f.TelemetryConfigRef != nil,
		"telemetry":          f.Telemetry != nil,
		"sessionStorage":     f.SessionStorage != nil,
		"trustProxyHeaders":  f.TrustProxyHeaders != nil,
		"endpointPrefix":     f.EndpointPrefix != nil,
	} {
		if isSet {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// RefusedFields are the fields of ToolHive's operator that protect the server. The API server refuses an MCPServer that has one of them. An
// MCPServer that was stored by another CRD keeps them, and the operator then creates and changes nothing for it. The API server accepts changes
// of such an MCPServer, for example of its finalizers. Its own ratcheting of rules does not do that here: it does not compare the content of
// objects whose fields the schema does not know.
//
// +kubebuilder:validation:XValidation:rule="!has(self.oidcConfig) || (oldSelf.hasValue() && has(oldSelf.value().oidcConfig))",optionalOldSelf=true,message="oidcConfig is not supported, because this operator runs no proxy that authenticates clients: remove it, and put a gateway that authenticates clients in front of the Service mcp-NAME-proxy",fieldPath=".oidcConfig"
// +kubebuilder:validation:XValidation:rule="!has(self.oidcConfigRef) || (oldSelf.hasValue() && has(oldSelf.value().oidcConfigRef))",optionalOldSelf=true,message="oidcConfigRef is not supported, because this operator runs no proxy that authenticates clients: remove it, and put a gateway that authenticates clients in front of the Service mcp-NAME-proxy",fieldPath=".oidcConfigRef"
// +kubebuilder:validation:XValidation:rule="!has(self.authzConfig) || (oldSelf.hasValue() && has(oldSelf.value().authzConfig))",optionalOldSelf=true,message="authzConfig is not supported, because this operator runs no proxy that authorizes the requests of clients: remove it, and put a gateway that authorizes requests in front of the Service mcp-NAME-proxy",fieldPath=".authzConfig"
// +kubebuilder:validation:XValidation:rule="!has(self.authzConfigRef) || (oldSelf.hasValue() && has(oldSelf.value().authzConfigRef))",optionalOldSelf=true,message="authzConfigRef is not supported, because this operator runs no proxy that authorizes the requests of clients: remove it, and put a gateway that authorizes requests in front of the Service mcp-NAME-proxy",fieldPath=".authzConfigRef"
// +kubebuilder:validation:XValidation:rule="!has(self.externalAuthConfigRef) || (oldSelf.hasValue() && has(oldSelf.value().externalAuthConfigRef))",optionalOldSelf=true,message="externalAuthConfigRef is not supported, because this operator runs no proxy that obtains credentials: remove it, and give the server its credentials with secrets, or put a gateway in front of it",fieldPath=".externalAuthConfigRef"
// +kubebuilder:validation:XValidation:rule="!has(self.authServerRef) || (oldSelf.hasValue() && has(oldSelf.value().authServerRef))",optionalOldSelf=true,message="authServerRef is not supported, because this operator runs no proxy that issues tokens to clients: remove it, and put a gateway that authenticates clients in front of the Service mcp-NAME-proxy",fieldPath=".authServerRef"
// +kubebuilder:validation:XValidation:rule="!has(self.webhookConfigRef) || (oldSelf.hasValue() && has(oldSelf.value().webhookConfigRef))",optionalOldSelf=true,message="webhookConfigRef is not supported, because this operator runs no proxy that calls webhooks: remove it, and put a gateway that calls them in front of the Service mcp-NAME-proxy",fieldPath=".webhookConfigRef"
// +kubebuilder:validation:XValidation:rule="!has(self.toolConfigRef) || (oldSelf.hasValue() && has(oldSelf.value().toolConfigRef))",optionalOldSelf=true,message="toolConfigRef is not supported, because this operator runs no proxy that hides tools: remove it, and turn the tools off in the server itself, or put a gateway that hides them in front of the Service mcp-NAME-proxy",fieldPath=".toolConfigRef"
// +kubebuilder:validation:XValidation:rule="!has(self.rateLimiting) || (oldSelf.hasValue() && has(oldSelf.value().rateLimiting))",optionalOldSelf=true,message="rateLimiting is not supported, because this operator runs no proxy that limits requests: remove it, and put a gateway that limits requests in front of the Service mcp-NAME-proxy",fieldPath=".rateLimiting"
// +kubebuilder:validation:XValidation:rule="!has(self.tools) || (oldSelf.hasValue() && has(oldSelf.value().tools))",optionalOldSelf=true,message="tools is not supported, because this operator runs no proxy that hides tools: remove it, and turn the tools off in the server itself, or put a gateway that hides them in front of the Service mcp-NAME-proxy",fieldPath=".tools"
type RefusedFields struct {
	// Refused: ToolHive's proxy authenticates clients by it.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	OIDCConfig *runtime.RawExtension `json:"oidcConfig,omitempty"`

	// Refused: ToolHive's proxy authenticates clients by it.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	OIDCConfigRef *runtime.RawExtension `json:"oidcConfigRef,omitempty"`

	// Refused: ToolHive's proxy authorizes the requests of clients by it.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	AuthzConfig *runtime.RawExtension `json:"authzConfig,omitempty"`

	// Refused: ToolHive's proxy authorizes the requests of clients by it.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	AuthzConfigRef *runtime.RawExtension `json:"authzConfigRef,omitempty"`

	// Refused: ToolHive's proxy obtains credentials for other services by it.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	ExternalAuthConfigRef *runtime.RawExtension `json:"externalAuthConfigRef,omitempty"`

	// Refused: ToolHive's proxy issues tokens to clients by it.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	AuthServerRef *runtime.RawExtension `json:"authServerRef,omitempty"`

	// Refused: ToolHive's proxy lets webhooks reject or change requests by it.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	WebhookConfigRef *runtime.RawExtension `json:"webhookConfigRef,omitempty"`

	// Refused: ToolHive's proxy hides tools from clients by it.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	ToolConfigRef *runtime.RawExtension `json:"toolConfigRef,omitempty"`

	// Refused: ToolHive's proxy limits the requests of clients by it.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	RateLimiting *runtime.RawExtension `json:"rateLimiting,omitempty"`

	// Refused: ToolHive's proxy hides all other tools from clients.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=256
	Tools []string `json:"tools,omitempty"`
}

// RefusedNames returns the names of the fields that are set and refused, because they protect the server.
func (s *MCPServerSpec) RefusedNames() []string {
	names := s.RefusedFields.RefusedNames()
	if s.PermissionProfile != nil && s.PermissionProfile.Type == "configmap" {
		names = append(names, "permissionProfile (type configmap)")
	}
	return names
}

// RefusedNames returns the names of the refused fields that are set.
func (f *RefusedFields) RefusedNames() []string {
	var names []string
	for name, field := range map[string]*runtime.RawExtension{
		"oidcConfig":            f.OIDCConfig,
		"oidcConfigRef":         f.OIDCConfigRef,
		"authzConfig":           f.AuthzConfig,
		"authzConfigRef":        f.AuthzConfigRef,
		"externalAuthConfigRef": f.ExternalAuthConfigRef,
		"authServerRef":         f.AuthServerRef,
		"webhookConfigRef":      f.WebhookConfigRef,
		"toolConfigRef":         f.ToolConfigRef,
		"rateLimiting":          f.RateLimiting,
	} {
		if field != nil {
			names = append(names, name)
		}
	}
	if len(f.Tools) > 0 {
		names = append(names, "tools")
	}
	slices.Sort(names)
	return names
}
