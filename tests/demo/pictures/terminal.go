package main

import (
	"fmt"
	"html"
	"strings"

	"mcpserver-operator/tests/demo/recording"
)

// The sizes of the picture of the terminal. A character of the font is charAdvance wide in a font of fontSize.
const (
	columns     = 120
	visible     = 30 // the visible lines
	fontSize    = 14
	charAdvance = 8.43
	textWidth   = 1012 // columns × charAdvance
	lineHeight  = 19
	border      = 20
	barHeight   = 34
	// longestPause is the longest time, in seconds, for which the picture shows the same lines. A longer wait of the run is cut to it.
	longestPause = 2.0
	// lastPause is the time, in seconds, for which the picture shows the end of the run before it starts again.
	lastPause = 6.0
)

const terminalStyle = `
  .window { fill: #161b22; stroke: #3d444d; }
  .cover { fill: #161b22; }
  .bar { fill: #9198a1; font: 13px -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif; text-anchor: middle; }
  .line { fill: #c9d1d9; font: 14px ui-monospace, "SFMono-Regular", "DejaVu Sans Mono", Menlo, Consolas, monospace; white-space: pre; }
  .step { fill: #ffffff; font-weight: 700; }
  .command { fill: #79c0ff; }
  .passed { fill: #56d364; }
`

// printedLine is a line of the terminal, and the time at which it appears in the picture.
type printedLine struct {
	at    float64
	text  string
	class string
}

// linesOf returns the lines of the output as a terminal wraps them, with waits of at most longestPause.
func linesOf(r *recording.Recording) []printedLine {
	var lines []printedLine
	var now, last float64
	rest := ""
	for _, part := range r.Output {
		now += min(part.At-last, longestPause)
		last = part.At
		text := rest + part.Text
		rest = ""
		for text != "" {
			line, after, ended := strings.Cut(text, "\n")
			if !ended {
				rest = line
				break
			}
			lines = append(lines, wrap(now, line)...)
			text = after
		}
	}
	return lines
}

// wrap breaks a line into lines of the width of the terminal.
func wrap(at float64, line string) []printedLine {
	class := "line"
	switch {
	case strings.HasPrefix(line, "\033[1m"):
		class = "line step"
	case strings.HasPrefix(line, "$ "):
		class = "line command"
	case strings.HasPrefix(line, "✓"), strings.HasPrefix(line, "All steps passed"):
		class = "line passed"
	}
	line = strings.NewReplacer("\033[1m", "", "\033[0m", "").Replace(line)
	var lines []printedLine
	text := []rune(line)
	for len(text) > columns {
		lines = append(lines, printedLine{at: at, text: string(text[:columns]), class: class})
		text = text[columns:]
	}
	return append(lines, printedLine{at: at, text: string(text), class: class})
}

// drawTerminal draws the output as a terminal that scrolls. A viewer without animations shows the end.
func drawTerminal(r *recording.Recording) string {
	lines := linesOf(r)
	width := textWidth + 2*border
	height := barHeight + visible*lineHeight + border
	total := lines[len(lines)-1].at + lastPause

	var svg strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&svg, format+"\n", args...) }
	p(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-labelledby="title">`, width, height)
	p(`<title id="title">The recorded output of make demo. Each step ends with a line that says which pods are ready.</title>`)
	p(`<style>%s`, terminalStyle)
	// A cover hides the lines that have not appeared yet, and the lines scroll when the window is full.
	animate := func(class string, position func(shown int) int) {
		p(`  .%s { animation: %s %.2fs step-end infinite; transform: translateY(%dpx); }`, class, class, total, position(len(lines)))
		p(`  @keyframes %s {`, class)
		for i := range lines {
			if i+1 < len(lines) && lines[i+1].at == lines[i].at {
				continue // the lines that appear at the same time are one keyframe
			}
			at := 100 * lines[i].at / total
			if lines[i].at == lines[0].at {
				at = 0
			}
			p(`    %.3f%% { transform: translateY(%dpx); }`, at, position(i+1))
		}
		p(`    100%% { transform: translateY(%dpx); }`, position(len(lines)))
		p(`  }`)
	}
	animate("lines", func(shown int) int { return min(0, visible-shown) * lineHeight })
	animate("cover", func(shown int) int { return shown * lineHeight })
	p(`  @media (prefers-reduced-motion: reduce) { .lines, .cover { animation: none; } }`)
	p(`</style>`)
	p(`<rect class="window" x="0.5" y="0.5" width="%d" height="%d" rx="8"/>`, width-1, height-1)
	for i, color := range []string{"#f85149", "#d29922", "#3fb950"} {
		p(`<circle cx="%d" cy="17" r="5.5" fill="%s"/>`, 22+i*20, color)
	}
	p(`<text class="bar" x="%d" y="22">make demo</text>`, width/2)
	p(`<svg x="%d" y="%d" width="%d" height="%d">`, border, barHeight, width-2*border, visible*lineHeight)
	p(`<g class="lines">`)
	for i, line := range lines {
		if line.text == "" {
			continue
		}
		p(`<text class="%s" xml:space="preserve" x="0" y="%d">%s</text>`, line.class, i*lineHeight+fontSize, html.EscapeString(line.text))
	}
	p(`<rect class="cover" x="-4" width="%d" height="%d"/>`, textWidth+8, visible*lineHeight)
	p(`</g>`)
	p(`</svg>`)
	p(`</svg>`)
	return svg.String()
}
