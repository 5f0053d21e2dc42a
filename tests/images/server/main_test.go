package main

import "testing"

func TestAddress(t *testing.T) {
	defaults := options{hostEnv: hostVariables, portEnv: portVariables}
	flags := defaults
	flags.host, flags.port = "127.0.0.1", "1"
	fast := options{hostEnv: "FASTMCP_HOST", portEnv: "FASTMCP_PORT"}
	for name, test := range map[string]struct {
		options options
		env     map[string]string
		want    string
	}{
		"nothing set":     {defaults, nil, "127.0.0.1:8080"},
		"MCP":             {defaults, map[string]string{"MCP_HOST": "0.0.0.0", "MCP_PORT": "9000"}, "0.0.0.0:9000"},
		"IPv6":            {defaults, map[string]string{"MCP_HOST": "::"}, "[::]:8080"},
		"FastMCP":         {defaults, map[string]string{"FASTMCP_HOST": "0.0.0.0", "FASTMCP_PORT": "9001"}, "0.0.0.0:9001"},
		"MCP goes first":  {defaults, map[string]string{"MCP_HOST": "::1", "FASTMCP_HOST": "0.0.0.0"}, "[::1]:8080"},
		"flags go first":  {flags, map[string]string{"MCP_HOST": "::1", "MCP_PORT": "9000"}, "127.0.0.1:1"},
		"FastMCP's alone": {fast, map[string]string{"MCP_HOST": "0.0.0.0", "MCP_PORT": "9000"}, "127.0.0.1:8080"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := test.options.address(func(name string) string { return test.env[name] }); got != test.want {
				t.Errorf("got the address %s, want %s", got, test.want)
			}
		})
	}
}
