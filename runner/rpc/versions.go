package rpc

// The protocol versions. The versions before Modern have sessions; see the MCP specification, Base Protocol, Transports.
const (
	HTTPWithSSE = "2024-11-05"
	// Batching is the first version of Streamable HTTP, and the only version that allows batches. A request without the header
	// MCP-Protocol-Version has this version.
	Batching = "2025-03-26"
	// Elicitation is the version that introduced the header MCP-Protocol-Version.
	Elicitation = "2025-06-18"
	// Polling is the version whose streams begin with an event that has an id and no data, so that the server may close them.
	Polling = "2025-11-25"
	// Modern is the first version without sessions.
	Modern = "2026-07-28"
)

// Legacy are the versions with sessions, in the order of their release.
var Legacy = []string{HTTPWithSSE, Batching, Elicitation, Polling}
