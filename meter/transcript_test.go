package meter_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wattline/meter"
)

// transcript is one exchange as it was seen on the wire: what was asked, and the raw bytes of the reply
// with the time of each read. testdata holds each as NAME.json beside NAME.http, the raw bytes.
type transcript struct {
	Name    string            `json:"-"`
	Server  string            `json:"server"` // what answered: flags of the llama-server, or where it was copied from
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Headers map[string]string `json:"headers,omitempty"`
	Body    string            `json:"body,omitempty"`
	SentUs  int64             `json:"sent_us"` // request written, since its first byte
	Reads   [][2]int64        `json:"reads"`   // time in us and bytes of each read
	Cut     bool              `json:"cut,omitempty"`
	Want    json.RawMessage   `json:"want,omitempty"` // the outcome: record and observations
	Raw     []byte            `json:"-"`
	keep    int               // reads with stamps that are kept
}

// outcome is the meter's result for a transcript.
type outcome struct {
	Record       *meter.Record       `json:"record"`
	Observations *meter.Observations `json:"observations"`
}

// details are the record's, empty where it has none.
func (o outcome) details() meter.Details {
	if o.Record.Details == nil {
		return meter.Details{}
	}
	return *o.Record.Details
}

// disputed reports whether two sources told different counts.
func (o outcome) disputed() bool { return len(o.Record.Disputed()) > 0 }

// Marks of a replayed transcript: P0 lies at epochNs, a flush takes flushNs.
const (
	epochNs = int64(time.Hour)
	flushNs = int64(20 * time.Microsecond)
)

// recordedReads gives a transcript's reads back one at a time and remembers when the last came.
type recordedReads struct {
	raw   []byte
	reads [][2]int64
	at    int64
}

func (r *recordedReads) Read(p []byte) (int, error) {
	if len(r.reads) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.raw[:r.reads[0][1]])
	r.at = epochNs + 1e3*r.reads[0][0]
	r.raw = r.raw[n:]
	if r.reads[0][1] -= int64(n); r.reads[0][1] == 0 {
		r.reads = r.reads[1:]
	}
	return n, nil
}

// piece is a run of body bytes that came in one read.
type piece struct {
	b  []byte
	at int64
}

// reply is a transcript's reply with its framing removed.
type reply struct {
	status int
	header http.Header
	at     int64 // mark H
	body   []piece
	end    int64
	clean  bool
}

func (tr *transcript) reply(t testing.TB) reply {
	t.Helper()
	src := &recordedReads{raw: tr.Raw, reads: append([][2]int64(nil), tr.Reads...)}
	resp, err := http.ReadResponse(bufio.NewReaderSize(src, 1<<20), nil)
	if err != nil {
		t.Fatalf("%s: %v", tr.Name, err)
	}
	defer resp.Body.Close()
	out := reply{status: resp.StatusCode, header: resp.Header, at: src.at}
	for buf := make([]byte, 1<<20); ; {
		n, err := resp.Body.Read(buf)
		if n > 0 {
			out.body = append(out.body, piece{bytes.Clone(buf[:n]), src.at})
		}
		if err != nil {
			out.end, out.clean = src.at, errors.Is(err, io.EOF)
			return out
		}
	}
}

func (r *reply) bytes() []byte {
	var b []byte
	for _, p := range r.body {
		b = append(b, p.b...)
	}
	return b
}

// play shows a transcript to m. slots may be nil.
func (tr *transcript) play(t testing.TB, m *meter.Meter, slots *meter.SlotClock) outcome {
	t.Helper()
	r := tr.reply(t)
	return tr.playBody(m, slots, &r)
}

func (tr *transcript) playBody(m *meter.Meter, slots *meter.SlotClock, r *reply) outcome {
	m.BeginRequest(meter.RequestHead{
		Method: tr.Method, Path: pathOf(tr.Path), Slots: slots, KeepStamps: tr.keep,
		Header: func(name string) []byte {
			for k, v := range tr.Headers {
				if strings.EqualFold(k, name) {
					return []byte(v)
				}
			}
			return nil
		},
	})
	m.RequestBody([]byte(tr.Body))
	m.BeginReply(meter.ReplyHead{Status: r.status, At: r.at, Header: func(name string) []byte {
		if v := r.header.Get(name); v != "" {
			return []byte(v)
		}
		return nil
	}})
	for _, p := range r.body {
		m.ReplyBody(p.b, p.at, p.at+flushNs)
	}
	rec := &meter.Record{Method: tr.Method, Path: pathOf(tr.Path), Status: meter.Some(int64(r.status)), Outcome: outcomeOf(r)}
	marks := meter.Marks{P0: epochNs, R: epochNs + 1e3*tr.SentUs/2, P1: epochNs + 1e3*tr.SentUs, H: r.at, E: r.end}
	m.Fill(rec, marks, r.clean)
	return outcome{rec, m.Observations()}
}

// outcomeOf is the outcome that a relay would report.
func outcomeOf(r *reply) meter.Outcome {
	switch {
	case r.status >= 400:
		return meter.UpstreamError
	case !r.clean:
		return meter.Truncated
	}
	return meter.OK
}

func pathOf(target string) string {
	p, _, _ := strings.Cut(target, "?")
	return p
}

func (o outcome) json(t testing.TB) []byte {
	t.Helper()
	b, err := json.MarshalIndent(o, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return compact(b)
}

// compact drops the members that are null, empty or false: what is absent is absent.
func compact(b []byte) []byte {
	var v any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		panic(err)
	}
	out, err := json.MarshalIndent(present(v), "", " ")
	if err != nil {
		panic(err)
	}
	return out
}

func present(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			e = present(e)
			v[k] = e
			m, isMap := e.(map[string]any)
			l, isList := e.([]any)
			if e == nil || e == "" || e == false || isMap && len(m) == 0 || isList && len(l) == 0 {
				delete(v, k)
			}
		}
	case []any:
		for i := range v {
			v[i] = present(v[i])
		}
	}
	return v
}

// send asks a server and records its reply. With tr.Cut the client leaves after so many reads.
func (tr *transcript) send(addr string, cutAfter int) error {
	conn, err := net.DialTimeout("tcp", addr, time.Minute)
	if err != nil {
		return fmt.Errorf("%s: %w", tr.Name, err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Minute)); err != nil {
		return err
	}
	var req bytes.Buffer
	fmt.Fprintf(&req, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", tr.Method, tr.Path, addr)
	for k, v := range tr.Headers {
		fmt.Fprintf(&req, "%s: %s\r\n", k, v)
	}
	if tr.Method == http.MethodPost {
		if tr.Headers["Content-Type"] == "" {
			req.WriteString("Content-Type: application/json\r\n")
		}
		fmt.Fprintf(&req, "Content-Length: %d\r\n", len(tr.Body))
	}
	req.WriteString("\r\n")
	req.WriteString(tr.Body)
	start := time.Now()
	if _, err := conn.Write(req.Bytes()); err != nil {
		return fmt.Errorf("%s: %w", tr.Name, err)
	}
	tr.SentUs = time.Since(start).Microseconds()
	tr.Raw, tr.Reads, tr.Cut = nil, nil, cutAfter > 0
	size := 1 << 18
	if tr.Cut {
		size = 2 << 10 // so that few reads are not the whole, however late this client reads
	}
	for buf := make([]byte, size); cutAfter == 0 || len(tr.Reads) < cutAfter; {
		n, err := conn.Read(buf)
		if n > 0 {
			tr.Reads = append(tr.Reads, [2]int64{time.Since(start).Microseconds(), int64(n)})
			tr.Raw = append(tr.Raw, buf[:n]...)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("%s: after %d bytes: %w", tr.Name, len(tr.Raw), err)
		}
	}
	return nil
}

// loadTranscripts reads testdata.
func loadTranscripts(t testing.TB) []*transcript {
	t.Helper()
	files, err := filepath.Glob("testdata/*/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts in testdata: %v", err)
	}
	var out []*transcript
	for _, f := range files {
		tr := &transcript{Name: strings.TrimSuffix(strings.TrimPrefix(filepath.ToSlash(f), "testdata/"), ".json")}
		meta, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(meta, tr); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		if tr.Raw, err = os.ReadFile(tr.file(".http")); err != nil {
			t.Fatal(err)
		}
		out = append(out, tr)
	}
	return out
}

func (tr *transcript) file(ext string) string { return filepath.Join("testdata", tr.Name+ext) }

// save writes a transcript into testdata.
func (tr *transcript) save(t testing.TB) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(tr.file("")), 0o755); err != nil {
		t.Fatal(err)
	}
	meta, err := json.Marshal(tr)
	if err != nil {
		t.Fatal(err)
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, meta, "", " "); err != nil {
		t.Fatal(err)
	}
	pretty.WriteByte('\n')
	if err := os.WriteFile(tr.file(".json"), shortReads(pretty.Bytes()), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(tr.file(".http"), tr.Raw, 0o644); err != nil {
		t.Fatal(err)
	}
}

// shortReads puts the pairs of numbers that indentation spread over four lines back on one.
func shortReads(b []byte) []byte {
	lines := bytes.Split(b, []byte("\n"))
	var out [][]byte
	for i := 0; i < len(lines); i++ {
		if string(bytes.TrimSpace(lines[i])) != "[" || i+3 >= len(lines) {
			out = append(out, lines[i])
			continue
		}
		pair := append([]byte(nil), lines[i]...)
		for _, l := range lines[i+1 : i+4] {
			pair = append(pair, bytes.TrimSpace(l)...)
		}
		out = append(out, pair)
		i += 3
	}
	return bytes.Join(out, []byte("\n"))
}
