package prompt

import (
	"bytes"
	"iter"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// The functions of this file walk JSON that is wholly in memory. They take broken JSON for shorter than it is; Parse checks
// the structure first.

func space(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }

func trim(b []byte) []byte {
	for len(b) > 0 && space(b[0]) {
		b = b[1:]
	}
	return b
}

// stringEnd returns where a string that begins at b[0] ends, behind its closing quote; -1 if it does not.
func stringEnd(b []byte) int {
	for i := 1; ; {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return -1
		}
		i += n
		slashes := 0
		for b[i-1-slashes] == '\\' { // the opening quote ends this
			slashes++
		}
		i++
		if slashes%2 == 0 {
			return i
		}
	}
}

// valueEnd returns where the value at b[0] ends; -1 if it does not.
func valueEnd(b []byte) int {
	if len(b) == 0 {
		return -1
	}
	switch b[0] {
	case '"':
		return stringEnd(b)
	case '{', '[':
		return containerEnd(b)
	}
	for i, c := range b {
		if c == ',' || c == ']' || c == '}' || space(c) {
			return i
		}
	}
	return len(b)
}

func containerEnd(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			n := stringEnd(b[i:])
			if n < 0 {
				return -1
			}
			i += n - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return -1
}

// object yields the members of an object: names without their quotes, and values as they stand.
func object(b []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		if len(b) == 0 || b[0] != '{' {
			return
		}
		for rest := trim(b[1:]); len(rest) > 0 && rest[0] == '"'; {
			n := stringEnd(rest)
			if n < 0 {
				return
			}
			name := rest[1 : n-1]
			if rest = trim(rest[n:]); len(rest) == 0 || rest[0] != ':' {
				return
			}
			rest = trim(rest[1:])
			if n = valueEnd(rest); n <= 0 || !yield(name, rest[:n]) {
				return
			}
			if rest = trim(rest[n:]); len(rest) == 0 || rest[0] != ',' {
				return
			}
			rest = trim(rest[1:])
		}
	}
}

// array yields the elements of an array.
func array(b []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if len(b) == 0 || b[0] != '[' {
			return
		}
		for rest := trim(b[1:]); len(rest) > 0; {
			n := valueEnd(rest)
			if n <= 0 || !yield(rest[:n]) {
				return
			}
			if rest = trim(rest[n:]); len(rest) == 0 || rest[0] != ',' {
				return
			}
			rest = trim(rest[1:])
		}
	}
}

func isString(v []byte) bool { return len(v) > 0 && v[0] == '"' }
func isArray(v []byte) bool  { return len(v) > 0 && v[0] == '[' }
func isObject(v []byte) bool { return len(v) > 0 && v[0] == '{' }

// isNull reports a value that is absent or null.
func isNull(v []byte) bool { return len(v) == 0 || v[0] == 'n' }

// plainName returns a member's name with its escapes resolved; hardly any has one.
func plainName(name []byte) []byte {
	if bytes.IndexByte(name, '\\') < 0 {
		return name
	}
	return unescape(nil, name)
}

// unescape appends a string's text, given as it stands between its quotes.
func unescape(dst, s []byte) []byte {
	for {
		n := bytes.IndexByte(s, '\\')
		if n < 0 || n+1 >= len(s) {
			return append(dst, s...)
		}
		dst = append(dst, s[:n]...)
		s = s[n:]
		if s[1] != 'u' {
			if i := bytes.IndexByte([]byte(`"\/bfnrt`), s[1]); i >= 0 {
				dst = append(dst, "\"\\/\b\f\n\r\t"[i])
			} else {
				dst = append(dst, s[:2]...)
			}
			s = s[2:]
			continue
		}
		r, ok := hex4(s)
		if !ok {
			dst, s = append(dst, s[:2]...), s[2:]
			continue
		}
		s = s[6:]
		if utf16.IsSurrogate(r) {
			low, ok := hex4(s)
			if both := utf16.DecodeRune(r, low); ok && both != utf8.RuneError {
				r, s = both, s[6:]
			} else {
				r = utf8.RuneError
			}
		}
		dst = utf8.AppendRune(dst, r)
	}
}

// hex4 reads \uXXXX.
func hex4(p []byte) (rune, bool) {
	if len(p) < 6 || p[0] != '\\' || p[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(p[2:6]), 16, 16)
	return rune(n), err == nil
}

// maxDepth is how deep canonical looks into a value; what lies deeper it copies.
const maxDepth = 64

// canonical appends a value in one form: without white space, strings with their escapes resolved, and without
// cache_control, which tells Anthropic's API where to cache and is no part of a prompt.
func canonical(dst, v []byte, depth int) []byte {
	switch {
	case depth == maxDepth:
	case isString(v):
		dst = unescape(append(dst, '"'), v[1:len(v)-1])
		return append(dst, '"')
	case isObject(v):
		dst = append(dst, '{')
		for name, value := range object(v) {
			if name = plainName(name); string(name) == "cache_control" {
				continue
			}
			if dst[len(dst)-1] != '{' {
				dst = append(dst, ',')
			}
			dst = append(append(append(dst, '"'), name...), '"', ':')
			dst = canonical(dst, value, depth+1)
		}
		return append(dst, '}')
	case isArray(v):
		dst = append(dst, '[')
		for value := range array(v) {
			if dst[len(dst)-1] != '[' {
				dst = append(dst, ',')
			}
			dst = canonical(dst, value, depth+1)
		}
		return append(dst, ']')
	}
	return append(dst, v...)
}
