package main

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

// growth collects results for each number of MCPServers, to show how they grow with the number. If the growth is linear, a result per MCPServer
// stays the same.
type growth struct {
	rows  []string
	sizes []int
	cells map[string]map[int]string
}

// add adds the result of a measurement with n MCPServers.
func (g *growth) add(what string, n int, result string) {
	if !slices.Contains(g.rows, what) {
		g.rows = append(g.rows, what)
	}
	if !slices.Contains(g.sizes, n) {
		g.sizes = append(g.sizes, n)
	}
	if g.cells == nil {
		g.cells = map[string]map[int]string{}
	}
	if g.cells[what] == nil {
		g.cells[what] = map[int]string{}
	}
	g.cells[what][n] = result
}

// print prints the table of growth.
func (g *growth) print() {
	slices.Sort(g.sizes)
	title("Growth")
	cells := []any{"what"}
	for _, n := range g.sizes {
		cells = append(cells, strconv.Itoa(n))
	}
	header(cells...)
	for _, what := range g.rows {
		cells := []any{what}
		for _, n := range g.sizes {
			cells = append(cells, g.cells[what][n]) // empty if it was not measured with n
		}
		row(cells...)
	}
}

// each formats a time per MCPServer.
func each(total time.Duration, n int) string {
	return fmt.Sprintf("%.2f ms", total.Seconds()*1000/float64(n))
}
