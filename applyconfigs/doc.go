// Package applyconfigs builds the apply configurations of the children of an MCPServer. The operator claims exactly the
// fields that a builder sets. Other clients may own all other fields. The builders are pure: they use no client and no
// clock, and do not read live objects.
//
// The packages below this package have the generated apply configurations of MCPServer itself. The file utils.go is
// generated with them.
package applyconfigs
