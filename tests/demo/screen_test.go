package main

import (
	"io"
	"os"
	"testing"

	"mcpserver-operator/tests/controlplane"
)

// TestAFileGetsNoEscapeCodes verifies that the output is plain text unless it goes to a terminal.
func TestAFileGetsNoEscapeCodes(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(screen(writer), bold+"a step"+normal+"\n"); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(reader); err != nil || string(got) != "a step\n" {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestNoColorTurnsEscapeCodesOff verifies that a terminal gets them only if NO_COLOR is not set.
func TestNoColorTurnsEscapeCodesOff(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		if controlplane.Required() { // as in CI
			t.Fatal(err)
		}
		t.Skip("this system has no pseudoterminals: ", err)
	}
	defer terminal.Close()
	t.Setenv("NO_COLOR", "")
	if got := screen(terminal); got != io.Writer(terminal) {
		t.Errorf("a terminal gets no escape codes: %T", got)
	}
	t.Setenv("NO_COLOR", "1")
	if got := screen(terminal); got != (plain{terminal}) {
		t.Errorf("with NO_COLOR, a terminal gets escape codes: %T", got)
	}
}
