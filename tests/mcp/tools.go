//go:build tools

package mcp

// The server under test. The import keeps its dependencies in go.mod.
import _ "github.com/modelcontextprotocol/go-sdk/conformance/everything-server"
