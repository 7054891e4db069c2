package meter

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// integer returns a whole number that a server or client wrote, null for anything else: a fraction is
// cut off, a number that int64 or a JSON reader could not hold exactly is not one.
func (v value) integer() Int {
	if v.kind != kindNumber || v.size > keepBytes {
		return Int{}
	}
	if n, ok := digits(v.raw); ok {
		return Some(n)
	}
	f, ok := v.float()
	if !ok || math.Abs(f) >= 1<<53 {
		return Int{}
	}
	return Some(int64(f))
}

// count is integer, null where a negative number stands for "unlimited" or "unknown", and for what no
// count can be.
func (v value) count() Int {
	i := v.integer()
	if i.V < 0 || i.V > 1<<40 {
		return Int{}
	}
	return i
}

// micros returns a time, given in units of so many microseconds, as whole microseconds.
func (v value) micros(unit float64) Int {
	f, ok := v.float()
	if !ok || f < 0 || f*unit > 1e15 {
		return Int{}
	}
	return Some(int64(math.Round(f * unit)))
}

func (v value) float() (float64, bool) {
	if v.kind != kindNumber || v.size > 32 {
		return 0, false // no count is longer; the limit also keeps the conversion off the heap
	}
	if n, ok := digits(v.raw); ok {
		return float64(n), true
	}
	f, err := strconv.ParseFloat(string(v.raw), 64)
	return f, err == nil && !math.IsInf(f, 0)
}

// digits is the short way for what nearly every number is: up to 18 digits.
func digits(p []byte) (int64, bool) {
	if len(p) == 0 || len(p) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range p {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// toBool returns a boolean, null for anything else.
func (v value) toBool() Int {
	switch v.kind {
	case kindTrue:
		return Some(1)
	case kindFalse:
		return Some(0)
	}
	return Int{}
}

// nonEmpty reports a string that is not empty.
func (v value) nonEmpty() bool { return v.kind == kindString && v.size > 0 }

// text is a wanted string as it stood in the document, at most keepBytes of it, kept until it is asked
// for. Its memory grows as needed and is kept.
type text struct{ b []byte }

func (t *text) set(v value) {
	if v.nonEmpty() {
		t.b = append(t.b[:0], v.raw[:min(len(v.raw), keepBytes)]...)
	}
}

func (t *text) copyFrom(o *text) { t.b = append(t.b[:0], o.b...) }

func (t *text) empty() { t.b = t.b[:0] }

// wipe forgets the bytes too.
func (t *text) wipe() {
	clear(t.b[:cap(t.b)])
	t.b = t.b[:0]
}

func (t *text) String() string { return unescape(t.b) }

// intern is String for texts that rarely change: it returns *last while the text is the same.
func (t *text) intern(last *string) string {
	if string(t.b) != *last || !simple(t.b) {
		*last = t.String()
	}
	return *last
}

// wordSet is a text of distinct words, joined by commas.
type wordSet struct{ text }

func (w *wordSet) add(v value) {
	if v.nonEmpty() {
		w.word(v.raw)
	}
}

func (w *wordSet) merge(o *wordSet) {
	for rest := o.b; len(rest) > 0; {
		word, more, _ := bytes.Cut(rest, comma)
		w.word(word)
		rest = more
	}
}

func (w *wordSet) word(word []byte) {
	for rest := w.b; len(rest) > 0; {
		known, more, _ := bytes.Cut(rest, comma)
		if bytes.Equal(known, word) {
			return
		}
		rest = more
	}
	room := keepBytes - len(w.b)
	if len(w.b) > 0 && room > 0 {
		w.b = append(w.b, ',')
		room--
	}
	w.b = append(w.b, word[:min(len(word), room)]...)
}

var comma = []byte{','} //nolint:gochecknoglobals // a constant

// unescape resolves a JSON string's escapes. What was cut off in the middle of an escape or of a
// character is dropped, what is not UTF-8 replaced: the result is always valid.
func unescape(p []byte) string {
	if simple(p) {
		return string(p)
	}
	var b strings.Builder
	for i := 0; i < len(p); {
		if p[i] != '\\' {
			b.WriteByte(p[i])
			i++
			continue
		}
		r, n := escape(p[i:])
		if n == 0 {
			break
		}
		b.WriteRune(r)
		i += n
	}
	s := b.String()
	for cut := 1; cut < utf8.UTFMax && cut <= len(s); cut++ {
		if tail := s[len(s)-cut:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRuneInString(tail) {
				s = s[:len(s)-cut]
			}
			break
		}
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// simple reports whether a text is ASCII without escapes, so that it needs no conversion.
func simple(p []byte) bool {
	for _, c := range p {
		if c >= utf8.RuneSelf || c == '\\' {
			return false
		}
	}
	return true
}

// escape reads the escape sequence that p begins with; n is 0 if it is incomplete.
func escape(p []byte) (r rune, n int) {
	if len(p) < 2 {
		return 0, 0
	}
	if p[1] != 'u' {
		if i := strings.IndexByte(`"\/bfnrt`, p[1]); i >= 0 {
			return rune("\"\\/\b\f\n\r\t"[i]), 2
		}
		return utf8.RuneError, 2
	}
	r, ok := hex4(p)
	if !ok {
		return 0, 0
	}
	if utf16.IsSurrogate(r) {
		if low, ok := hex4(p[6:]); ok {
			if both := utf16.DecodeRune(r, low); both != utf8.RuneError {
				return both, 12
			}
		}
		return utf8.RuneError, 6
	}
	return r, 6
}

// hex4 reads \uXXXX.
func hex4(p []byte) (rune, bool) {
	if len(p) < 6 || p[0] != '\\' || p[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(p[2:6]), 16, 32)
	return rune(n), err == nil
}
