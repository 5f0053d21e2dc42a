// Command pictures draws the recorded run of the demo: the owner of the scale over time, and the terminal. It needs no network and no
// control plane, and the same recording always gives the same pictures.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"mcpserver-operator/tests/demo/recording"
)

// pictures are the files that are drawn in the folder of the recording.
var pictures = map[string]func(*recording.Recording) string{
	"scale.svg":    drawScale,
	"terminal.svg": drawTerminal,
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: pictures FOLDER")
		os.Exit(2)
	}
	if err := draw(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "pictures:", err)
		os.Exit(1)
	}
}

func draw(folder string) error {
	r, err := recording.Read(folder)
	if err != nil {
		return err
	}
	if len(r.Actions) == 0 || len(r.Scale) == 0 {
		return errors.New("the recording has no action or no scale")
	}
	for name, draw := range pictures {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(draw(r)), 0o600); err != nil {
			return fmt.Errorf("writing a picture: %w", err)
		}
	}
	return nil
}
