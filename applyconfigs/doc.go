// Package applyconfigs turns an MCPServer into the apply configurations of its children. A field that a builder sets is
// a field that the operator claims; a field that it does not set belongs to whoever sets it. The builders are pure: no
// client, no clock, no reading of live objects.
//
// The generated apply configurations of MCPServer itself are below this package; utils.go is generated with them.
package applyconfigs
