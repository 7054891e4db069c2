package meter

import (
	"bytes"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Header values are compared without regard to case, as HTTP's tokens are.

func equalFold(v []byte, want string) bool {
	return strings.EqualFold(string(bytes.TrimSpace(v)), want)
}

func hasPrefixFold(v []byte, prefix string) bool {
	v = bytes.TrimSpace(v)
	return len(v) >= len(prefix) && strings.EqualFold(string(v[:len(prefix)]), prefix)
}

// clip returns what may be shown of a foreign value: valid UTF-8 of at most n bytes.
func clip(v []byte, n int) string {
	v = bytes.TrimSpace(v)
	return strings.ToValidUTF8(string(v[:min(n, len(v))]), "")
}

func quoted(v []byte) string { return strconv.Quote(clip(v, 64)) }

// printable reports valid UTF-8 without control characters.
func printable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, unicode.IsControl) < 0
}
