package applyconfigs

import "testing"

// BenchmarkBuild builds all children of a minimal MCPServer, and of an MCPServer with a podTemplateSpec, which must be merged.
func BenchmarkBuild(b *testing.B) {
	for _, name := range []string{"minimal", "template"} {
		server := read(b, name)
		build(b, server, Scale{}) // the first use parses the schema of pod templates
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				build(b, server, Scale{})
			}
		})
	}
}
