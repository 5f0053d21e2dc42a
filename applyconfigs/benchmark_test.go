package applyconfigs

import "testing"

// BenchmarkBuild builds all children of an MCPServer: of a minimal one, and of one with a template of its own, which has
// to be merged.
func BenchmarkBuild(b *testing.B) {
	for _, name := range []string{"minimal", "template"} {
		server := read(b, name)
		build(b, server, Scale{}) // the schema of templates is parsed once, at the first use
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				build(b, server, Scale{})
			}
		})
	}
}
