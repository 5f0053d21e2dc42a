package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mcpserver-operator/tests/demo/recording"
)

// folder has the committed recording and its pictures.
var folder = filepath.Join("..", "..", "..", "docs", "pictures")

func committed(t *testing.T) *recording.Recording {
	t.Helper()
	r, err := recording.Read(folder)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestThePicturesAreThoseOfTheRecording verifies that the committed pictures are drawn from the committed recording.
func TestThePicturesAreThoseOfTheRecording(t *testing.T) {
	for name, draw := range pictures {
		picture, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		if string(picture) != draw(committed(t)) {
			t.Errorf("docs/pictures/%s is out of date: run make pictures", name)
		}
	}
}

// TestThePicturesAreXML verifies that a browser can read the pictures, whatever the recorded text is.
func TestThePicturesAreXML(t *testing.T) {
	r := committed(t)
	r.Actions[0].What = `<&"`
	r.Scale[0].Owner = `<&"`
	r.Output = append(r.Output, recording.Output{At: r.End, Text: `<&"` + "\n"})
	for name, draw := range pictures {
		decoder := xml.NewDecoder(strings.NewReader(draw(r)))
		for {
			if _, err := decoder.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
}

// TestARecordingIsReadAsItWasWritten verifies the format of the files.
func TestARecordingIsReadAsItWasWritten(t *testing.T) {
	first, again := t.TempDir(), t.TempDir()
	if err := committed(t).Write(first); err != nil {
		t.Fatal(err)
	}
	r, err := recording.Read(first)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Write(again); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"demo.json", "demo.cast"} {
		want, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(again, name))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s is not the same after it was read and written", name)
		}
	}
}

// TestWaitsAreCut verifies that a long wait of the run does not keep the reader of the picture waiting.
func TestWaitsAreCut(t *testing.T) {
	lines := linesOf(&recording.Recording{Output: []recording.Output{
		{At: 1, Text: "one\n"}, {At: 100, Text: "tw"}, {At: 100.5, Text: "o\n"},
	}})
	if len(lines) != 2 || lines[0].at != 1 || lines[1].at != 1+longestPause+0.5 || lines[1].text != "two" {
		t.Errorf("the lines are %+v", lines)
	}
}
