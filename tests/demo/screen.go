package main

import (
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// The escape codes of a terminal that the demo prints.
const (
	bold   = "\033[1m"
	normal = "\033[0m"
)

// screen returns a writer to a file. Unless the file is a terminal, and if NO_COLOR is set (https://no-color.org), it writes no escape codes.
func screen(file *os.File) io.Writer {
	if term.IsTerminal(int(file.Fd())) && os.Getenv("NO_COLOR") == "" {
		return file
	}
	return plain{file}
}

// plain leaves out the escape codes. Each of them must be in one write.
type plain struct{ to io.Writer }

func (p plain) Write(text []byte) (int, error) {
	if _, err := strings.NewReplacer(bold, "", normal, "").WriteString(p.to, string(text)); err != nil {
		return 0, err
	}
	return len(text), nil
}
