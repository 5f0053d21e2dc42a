// Package recording is the format of a recorded run of the demo: the scale of the StatefulSet over time, and the output.
package recording

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// The names of the files of a recording in their folder.
const (
	scaleFile  = "demo.json"
	outputFile = "demo.cast"
)

// Recording is a recorded run. All times are in seconds since the start of the run.
type Recording struct {
	// Kubernetes is the version of the control plane.
	Kubernetes string `json:"kubernetes"`
	// Node is the kind of node: "real" or "played".
	Node string `json:"node"`
	// End is the time at which the last step ended.
	End float64 `json:"end"`
	// Actions are what the demo did, in order.
	Actions []Action `json:"actions"`
	// Scale has one entry for each change of the scale or its owner, in order.
	Scale []Scale `json:"scale"`
	// Output is what the run printed. It is stored in a file of its own.
	Output []Output `json:"-"`
}

// Action is a change that the demo made.
type Action struct {
	At   float64 `json:"at"`
	What string  `json:"what"`
}

// Scale is the scale of the StatefulSet from a point in time.
type Scale struct {
	At float64 `json:"at"`
	// Replicas is spec.replicas of the StatefulSet.
	Replicas int32 `json:"replicas"`
	// Owner is status.scale.owner of the MCPServer.
	Owner string `json:"owner"`
}

// Output is a part of the output.
type Output struct {
	At   float64
	Text string
}

// Write writes the files of a recording to a folder. The output is in the format asciicast v2, which asciinema can play.
func (r *Recording) Write(folder string) error {
	scale, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the recording: %w", err)
	}
	var output bytes.Buffer
	lines := json.NewEncoder(&output)
	lines.SetEscapeHTML(false)
	// The size is that of a terminal in which no line of the demo is wrapped.
	if err := lines.Encode(map[string]any{"version": 2, "width": 120, "height": 34, "title": "make demo"}); err != nil {
		return fmt.Errorf("encoding the output: %w", err)
	}
	for _, part := range r.Output {
		text := string(bytes.ReplaceAll([]byte(part.Text), []byte("\n"), []byte("\r\n")))
		if err := lines.Encode([]any{part.At, "o", text}); err != nil {
			return fmt.Errorf("encoding the output: %w", err)
		}
	}
	for name, content := range map[string][]byte{scaleFile: append(scale, '\n'), outputFile: output.Bytes()} {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			return fmt.Errorf("writing the recording: %w", err)
		}
	}
	return nil
}

// Read reads the files that Write has written.
func Read(folder string) (*Recording, error) {
	r := &Recording{}
	content, err := os.ReadFile(filepath.Join(folder, scaleFile))
	if err != nil {
		return nil, fmt.Errorf("reading the recording: %w", err)
	}
	if err := json.Unmarshal(content, r); err != nil {
		return nil, fmt.Errorf("decoding %s: %w", scaleFile, err)
	}
	content, err = os.ReadFile(filepath.Join(folder, outputFile))
	if err != nil {
		return nil, fmt.Errorf("reading the recording: %w", err)
	}
	_, events, _ := bytes.Cut(content, []byte("\n"))
	for line := range bytes.Lines(events) {
		var kind string
		part := Output{}
		if err := json.Unmarshal(line, &[]any{&part.At, &kind, &part.Text}); err != nil {
			return nil, fmt.Errorf("decoding %s: %w", outputFile, err)
		}
		part.Text = string(bytes.ReplaceAll([]byte(part.Text), []byte("\r\n"), []byte("\n")))
		r.Output = append(r.Output, part)
	}
	return r, nil
}
