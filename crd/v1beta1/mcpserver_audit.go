package v1beta1

// Audit says what the runner logs of the requests of clients. The log is that of the container runner, or of the container mcp of a stdio server.
type Audit struct {
	// If true, the runner writes a line of JSON for each request: the short id of the session, the method, the name of the tool, the prompt or
	// the resource, the status, the outcome and the duration. Defaults to false.
	// +optional
	Enabled bool `json:"enabled,omitempty"`

	// If true, the lines also have the arguments of the requests, up to 1024 bytes. They may contain secrets. Defaults to false.
	// +optional
	IncludeArguments bool `json:"includeArguments,omitempty"`

	// If true, the lines also have the results, up to 1024 bytes. They may contain secrets. Defaults to false.
	// +optional
	IncludeResults bool `json:"includeResults,omitempty"`
}
