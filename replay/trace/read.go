package trace

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/flate"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Limits of a trace.
const (
	maxTokens  = 100_000_000 // of a prompt, a reply or a block
	maxRecords = 5_000_000
	maxLine    = 64 << 20 // bytes
	readSize   = 64 << 10
)

// Read reads a trace, gzipped or not. An error is a sentence that names the file and what to do.
func Read(path string) (*Trace, error) {
	t, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

func read(path string) (*Trace, error) {
	f, err := os.Open(path) //nolint:gosec // the user names it
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	defer f.Close() //nolint:errcheck // only read
	sum := sha256.New()
	whole := bufio.NewReader(io.TeeReader(f, sum))
	in := io.Reader(whole)
	if magic, _ := whole.Peek(2); string(magic) == "\x1f\x8b" {
		z, err := gzip.NewReader(whole)
		if err != nil {
			return nil, readError(err)
		}
		in = z
	}
	t := &Trace{File: filepath.Base(path), most: maxRecords}
	if err := t.readFrom(in); err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, whole); err != nil { // bytes behind a gzip stream
		return nil, readError(err)
	}
	t.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return t, nil
}

// readFrom finds the format by the first line and reads the records.
func (t *Trace) readFrom(in io.Reader) error {
	lines := &lineReader{in: bufio.NewReaderSize(in, readSize)}
	if !lines.next() {
		if lines.err != nil {
			return lines.err
		}
		return errors.New("it is empty")
	}
	for _, f := range formats() {
		if !f.is(lines) {
			continue
		}
		t.Format = f.name
		if err := f.read(t, lines); err != nil {
			return err
		}
		return t.check()
	}
	return fmt.Errorf("it is no trace of a known format: a trace begins with a manifest of wattline, a JSON object with timestamp, input_length and output_length (Mooncake) "+
		"or with requests (Weka), or a CSV header with TIMESTAMP,ContextTokens,GeneratedTokens (Azure) or Timestamp,Request tokens,Response tokens (BurstGPT); its first line is %q", clip(lines.text))
}

type format struct {
	name string
	is   func(first *lineReader) bool
	read func(*Trace, *lineReader) error
}

// formats are all formats, in the order in which they are tried.
func formats() []format {
	return []format{
		{"wattline", hasKey("wattline_trace"), (*Trace).readWattline},
		{"mooncake", hasKey("input_length"), (*Trace).readMooncake},
		{"weka", isWeka, (*Trace).readWeka},
		{"azure", hasColumn("contexttokens"), (*Trace).readAzure},
		{"burstgpt", hasColumn("request tokens"), (*Trace).readBurstGPT},
	}
}

// hasKey reports whether the first line is a JSON object with a key.
func hasKey(key string) func(*lineReader) bool {
	return func(first *lineReader) bool {
		var object map[string]json.RawMessage
		return json.Unmarshal(first.text, &object) == nil && object[key] != nil
	}
}

// hasColumn reports whether a CSV header has a column.
func hasColumn(name string) func(*lineReader) bool {
	return func(first *lineReader) bool {
		for column := range strings.SplitSeq(string(first.text), ",") {
			if columnName(column) == name {
				return true
			}
		}
		return false
	}
}

// check holds what is true of every trace.
func (t *Trace) check() error {
	switch {
	case len(t.Records) == 0 && len(t.Impossible) > 0:
		return fmt.Errorf("none of its records can be sent: %s", t.Impossible[0])
	case len(t.Records) == 0:
		return errors.New("it has no record behind its first line")
	}
	if t.Clock.First == "" {
		t.Clock.First = "0"
	}
	origin := t.Records[0].Offset
	before := time.Duration(0)
	for i := range t.Records {
		r := &t.Records[i]
		r.Offset -= origin
		switch {
		case r.Offset < before:
			return fmt.Errorf("line %d is %v earlier than the line before it: sort the file by time", r.Line, before-r.Offset)
		case r.Offset-before > twoClocks:
			return fmt.Errorf("line %d is %.0f days later than the line before it: the file mixes two clocks", r.Line, (r.Offset-before).Hours()/24)
		}
		before = r.Offset
	}
	return nil
}

// twoClocks is a gap that no recording has: an absolute clock behind a relative one, or another unit.
const twoClocks = 366 * 24 * time.Hour

// String names the lines and the reason.
func (p Impossible) String() string {
	named := make([]string, len(p.Lines))
	for i, n := range p.Lines {
		named[i] = fmt.Sprint(n)
	}
	more := ""
	if p.Count > len(p.Lines) {
		more = ", ..."
	}
	plural := "s"
	if p.Count == 1 {
		plural = ""
	}
	return fmt.Sprintf("%d record%s %s (line%s %s%s)", p.Count, plural, p.Reason, plural, strings.Join(named, ", "), more)
}

// lineReader yields the lines that are not blank.
type lineReader struct {
	in   *bufio.Reader
	text []byte // of the current line, until the next
	n    int    // its number, from 1
	err  error
}

// next reads the next line that is not blank.
func (l *lineReader) next() bool {
	for l.err == nil {
		var text []byte
		var err error
		for {
			var part []byte
			part, err = l.in.ReadSlice('\n')
			text = append(text, part...)
			if !errors.Is(err, bufio.ErrBufferFull) || len(text) > maxLine {
				break
			}
		}
		switch {
		case err != nil && !errors.Is(err, io.EOF):
			l.err = readError(err)
			return false
		case len(text) == 0:
			return false
		}
		l.n++
		if l.text = bytes.TrimSpace(bytes.TrimPrefix(text, []byte("\ufeff"))); len(l.text) > 0 {
			return true
		}
	}
	return false
}

// rest is the file from the current line on.
func (l *lineReader) rest() io.Reader {
	return io.MultiReader(bytes.NewReader(append(l.text, '\n')), l.in)
}

// errorf is an error that names the current line.
func (l *lineReader) errorf(format string, args ...any) error {
	return fmt.Errorf("line %d %s", l.n, fmt.Sprintf(format, args...))
}

// readError is the sentence for a file that cannot be read to its end.
func readError(err error) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF): // gzip's; the end of a plain file is no error
		return errors.New("the gzip file is cut off: fetch it again")
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum), errors.As(err, new(flate.CorruptInputError)):
		return errors.New("the gzip file is damaged: fetch it again")
	case errors.Is(err, bufio.ErrBufferFull):
		return fmt.Errorf("a line has more than %d MB: it is no trace, or needs to be cut into pieces", maxLine>>20)
	}
	return fmt.Errorf("it cannot be read: %w", err)
}

// jsonError is the reason without the library's words.
func jsonError(err error) string {
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Sprintf("its %s is a %s, which is not possible there", cmp.Or(e.Field, "value"), e.Value)
	}
	return strings.TrimPrefix(err.Error(), "json: ")
}

// clip shortens a line for an error.
func clip(text []byte) []byte {
	const shown = 60
	return text[:min(shown, len(text))]
}
