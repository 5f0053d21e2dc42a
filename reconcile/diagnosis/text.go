package diagnosis

import (
	"regexp"
	"strings"
	"unicode"
)

// mostText is the maximum length of a quoted text, in runes. A message about a rejected pod is rarely longer.
const mostText = 400

// localPort matches the local port of a connection in network errors of Go. It differs at each retry.
var localPort = regexp.MustCompile(`(\b(?:\d+\.){3}\d+|\[[0-9a-f:]+\]):\d+->`)

// quote returns a text on one line, at most mostText long, without a final period and without local ports.
func quote(text string) string {
	runes := []rune(localPort.ReplaceAllString(oneLine(text), "$1->"))
	if len(runes) > mostText {
		return string(runes[:mostText]) + "…"
	}
	return strings.TrimSuffix(string(runes), ".")
}

// quoteEnd is quote for a text whose end matters, such as the last output of a program.
func quoteEnd(text string) string {
	runes := []rune(oneLine(text))
	if len(runes) > mostText {
		runes = append([]rune("…"), runes[len(runes)-mostText:]...)
	}
	return strings.TrimSuffix(string(runes), ".")
}

// oneLine joins a text to one line and removes non-printable characters, such as those of terminal escape sequences.
func oneLine(text string) string {
	printable := strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		default:
			return r
		}
	}, text)
	return strings.Join(strings.Fields(printable), " ")
}
