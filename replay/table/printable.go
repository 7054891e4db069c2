package table

import (
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Printable is foreign text as a terminal may be shown it: characters that are not graphic (control characters such as ESC,
// BEL and CR, those that turn the direction of writing or cannot be seen, bytes that are not UTF-8) are written as in a Go
// string, \x1b or \u202e.
func Printable(s string) string { return escape(s, "") }

// PrintableLines is Printable for text of several lines: line ends and tabs stay.
func PrintableLines(s string) string { return escape(s, "\n\t") }

// escape leaves the characters in keep as they are.
func escape(s, keep string) string {
	clean := true
	for _, r := range s {
		if r == utf8.RuneError || !strconv.IsGraphic(r) && !strings.ContainsRune(keep, r) {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if strings.ContainsRune(keep, r) || strconv.IsGraphic(r) && (r != utf8.RuneError || n > 1) {
			b.WriteString(s[i : i+n])
		} else {
			q := strconv.QuoteToGraphic(s[i : i+n])
			b.WriteString(q[1 : len(q)-1])
		}
		i += n
	}
	return b.String()
}

// Plain is a writer of text for a terminal: it passes on what is written with foreign characters as Printable has them,
// except that lines and tabs stay. A character must not be split between two writes.
func Plain(w io.Writer) io.Writer { return plainWriter{w} }

type plainWriter struct{ w io.Writer }

func (p plainWriter) Write(b []byte) (int, error) {
	if n, err := io.WriteString(p.w, PrintableLines(string(b))); err != nil {
		return min(n, len(b)), err
	}
	return len(b), nil
}
