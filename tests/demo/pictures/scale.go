package main

import (
	"fmt"
	"html"
	"strings"

	"mcpserver-operator/tests/demo/recording"
)

// The sizes of the picture of the scale, in pixels.
const (
	scaleWidth = 960
	plotLeft   = 64
	plotRight  = scaleWidth - 24
	bandTop    = 60 // the band with the owners
	bandHeight = 30
	plotTop    = 140
	plotBottom = 320
	listTop    = 392 // the list of the actions
	listStep   = 24
	charWidth  = 7 // the approximate width of a character of a label
)

// scaleStyle has the colors for a light and for a dark page. The picture has its own background, so that it is readable on both.
const scaleStyle = `
  .page { fill: #ffffff; stroke: #d0d7de; }
  text { fill: #1f2328; font: 13px -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif; }
  .title { font-size: 16px; font-weight: 600; }
  .axis { fill: #59636e; font-size: 12px; }
  .code { font: 12.5px ui-monospace, "SFMono-Regular", "DejaVu Sans Mono", Menlo, monospace; }
  .grid { stroke: #d0d7de; stroke-width: 1; }
  .action { stroke: #59636e; stroke-width: 1; stroke-dasharray: 3 4; }
  .number { fill: #59636e; }
  .in-number, .in-band { fill: #ffffff; font-size: 12px; font-weight: 600; text-anchor: middle; }
  .value { font-size: 15px; font-weight: 600; text-anchor: middle; }
  .nobody { fill: #6e7781; } .operator { fill: #0969da; } .other { fill: #1a7f37; }
  .area { opacity: 0.22; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117; stroke: #3d444d; }
    text { fill: #f0f6fc; }
    .axis { fill: #9198a1; }
    .grid { stroke: #3d444d; }
    .action { stroke: #9198a1; }
    .in-number, .in-band { fill: #ffffff; }
    .nobody { fill: #6e7681; } .operator { fill: #1f6feb; } .other { fill: #238636; }
    .area { opacity: 0.4; }
  }
`

// period is a time in which neither the scale nor its owner changed.
type period struct {
	recording.Scale
	until float64
}

// periodsOf returns the periods of a recording.
func periodsOf(r *recording.Recording) []period {
	var periods []period
	for i, scale := range r.Scale {
		until := r.End
		if i+1 < len(r.Scale) {
			until = r.Scale[i+1].At
		}
		periods = append(periods, period{Scale: scale, until: until})
	}
	return periods
}

// merged joins neighboring periods that are equal in the given respect.
func merged(periods []period, equal func(a, b period) bool) []period {
	var all []period
	for _, p := range periods {
		if last := len(all) - 1; last >= 0 && equal(all[last], p) {
			all[last].until = p.until
			continue
		}
		all = append(all, p)
	}
	return all
}

// classOf returns the class of the color of an owner.
func classOf(owner string) string {
	switch owner {
	case "Unclaimed":
		return "nobody"
	case "MCPServer":
		return "operator"
	default:
		return "other"
	}
}

// drawScale draws the number of replicas and its owner over time. Time starts with the first action.
func drawScale(r *recording.Recording) string {
	start := r.Actions[0].At
	x := func(at float64) float64 {
		return plotLeft + (plotRight-plotLeft)*(at-start)/(r.End-start)
	}
	var most int32
	for _, scale := range r.Scale {
		most = max(most, scale.Replicas)
	}
	y := func(replicas float64) float64 {
		return plotBottom - (plotBottom-plotTop)*replicas/(float64(most)+0.5)
	}
	rows := (len(r.Actions) + 1) / 2
	height := listTop + rows*listStep

	var svg strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&svg, format+"\n", args...) }
	p(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-labelledby="title">`, scaleWidth, height)
	p(`<title id="title">%s</title>`, html.EscapeString(describe(r)))
	p(`<style>%s</style>`, scaleStyle)
	p(`<rect class="page" x="0.5" y="0.5" width="%d" height="%d" rx="8"/>`, scaleWidth-1, height-1)
	p(`<text class="title" x="20" y="32">Who owns the scale</text>`)
	p(`<text class="axis" x="%d" y="32" text-anchor="end">recorded run of make demo, Kubernetes %s, %s node</text>`,
		plotRight, html.EscapeString(r.Kubernetes), html.EscapeString(r.Node))

	for replicas := range most + 1 {
		p(`<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>`, plotLeft, plotRight, y(float64(replicas)), y(float64(replicas)))
		p(`<text class="axis" x="%d" y="%.1f" text-anchor="end">%d</text>`, plotLeft-10, y(float64(replicas))+4, replicas)
	}
	p(`<text class="axis" transform="translate(20 %d) rotate(-90)" text-anchor="middle">replicas</text>`, (plotTop+plotBottom)/2)
	p(`<text class="axis" x="%d" y="%d" text-anchor="end">owner</text>`, plotLeft-10, bandTop+bandHeight/2+4)
	for second := 0; float64(second) <= r.End-start; second += 10 {
		p(`<text class="axis" x="%.1f" y="%d" text-anchor="middle">%d s</text>`, x(start+float64(second)), plotBottom+20, second)
	}

	periods := periodsOf(r)
	for _, owned := range merged(periods, func(a, b period) bool { return a.Owner == b.Owner }) {
		left, width := x(owned.At), x(owned.until)-x(owned.At)
		p(`<rect class="%s" x="%.1f" y="%d" width="%.1f" height="%d" rx="4"><title>%s</title></rect>`,
			classOf(owned.Owner), left, bandTop, max(width-2, 1), bandHeight, html.EscapeString(owned.Owner))
		if name := fitting(owned.Owner, width-8); name != "" {
			p(`<text class="in-band" x="%.1f" y="%d">%s</text>`, left+width/2, bandTop+bandHeight/2+4, html.EscapeString(name))
		}
	}
	for _, scaled := range periods {
		left, width := x(scaled.At), x(scaled.until)-x(scaled.At)
		top := y(float64(scaled.Replicas))
		p(`<rect class="%s area" x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>`, classOf(scaled.Owner), left, top, width, plotBottom-top)
		p(`<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="3"/>`, classOf(scaled.Owner), left, top-1.5, width)
	}
	for _, scaled := range merged(periods, func(a, b period) bool { return a.Replicas == b.Replicas }) {
		p(`<text class="value" x="%.1f" y="%.1f">%d</text>`, (x(scaled.At)+x(scaled.until))/2, y(float64(scaled.Replicas))-8, scaled.Replicas)
	}

	last := 0.0
	for i, action := range r.Actions {
		at := x(action.At)
		p(`<line class="action" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`, at, at, bandTop+bandHeight+18, plotBottom)
		number := max(at, last+20) // actions that follow each other closely get their numbers side by side
		last = number
		p(`<circle class="number" cx="%.1f" cy="%d" r="9"/><text class="in-number" x="%.1f" y="%d">%d</text>`,
			number, bandTop+bandHeight+18, number, bandTop+bandHeight+22, i+1)
		column, row := i/rows, i%rows
		left, top := 32+column*(scaleWidth-40)/2, listTop+row*listStep
		p(`<circle class="number" cx="%d" cy="%d" r="9"/><text class="in-number" x="%d" y="%d">%d</text>`, left, top-4, left, top, i+1)
		p(`<text class="code" x="%d" y="%d">%s</text>`, left+18, top, html.EscapeString(action.What))
	}
	p(`</svg>`)
	return svg.String()
}

// fitting returns the longest form of a name that fits into a width: the name, its abbreviation, or nothing.
func fitting(name string, width float64) string {
	for _, form := range []string{name, strings.Replace(name, "HorizontalPodAutoscaler", "HPA", 1)} {
		if float64(len(form)*charWidth) <= width {
			return form
		}
	}
	return ""
}

// describe tells what the picture shows, for readers who do not see it.
func describe(r *recording.Recording) string {
	var said []string
	for _, p := range merged(periodsOf(r), func(a, b period) bool { return a.Owner == b.Owner && a.Replicas == b.Replicas }) {
		said = append(said, fmt.Sprintf("%d replicas, owner %s, for %.1f s", p.Replicas, p.Owner, p.until-p.At))
	}
	return "The scale of the StatefulSet and its owner: " + strings.Join(said, "; ") + "."
}
