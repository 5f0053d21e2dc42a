package diagnosis

import (
	"regexp"
	"strings"
	"unicode"
)

// mostText bounds what is quoted of others' text, in runes. A message about a refused pod is rarely longer.
const mostText = 400

// localPort is the port of a connection's own end, as network errors of Go name it: another at each try.
var localPort = regexp.MustCompile(`(\b(?:\d+\.){3}\d+|\[[0-9a-f:]+\]):\d+->`)

// quote returns text of others on one line and in bounds, without a final period, and without what is another at each try.
func quote(text string) string {
	runes := []rune(localPort.ReplaceAllString(oneLine(text), "$1->"))
	if len(runes) > mostText {
		return string(runes[:mostText]) + "…"
	}
	return strings.TrimSuffix(string(runes), ".")
}

// quoteEnd is quote for text of which the end counts, such as the last words of a program.
func quoteEnd(text string) string {
	runes := []rune(oneLine(text))
	if len(runes) > mostText {
		runes = append([]rune("…"), runes[len(runes)-mostText:]...)
	}
	return strings.TrimSuffix(string(runes), ".")
}

// oneLine replaces white space and what cannot be printed, such as the escape sequences of a terminal.
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
