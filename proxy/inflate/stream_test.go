package inflate

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"wattline/meter"
	"wattline/meter/metertest"
)

// flusher is a compressor as a server uses it for a stream.
type flusher interface {
	io.WriteCloser
	Flush() error
}

// compressors has a way to write each coding, by the name that a server gives it.
var compressors = map[string]func(io.Writer) flusher{
	"gzip":    func(w io.Writer) flusher { return gzip.NewWriter(w) },
	"deflate": func(w io.Writer) flusher { return zlib.NewWriter(w) },
	"br":      func(w io.Writer) flusher { return brotli.NewWriterLevel(w, 4) },
	"zstd":    newZstdWriter,
}

func newZstdWriter(w io.Writer) flusher {
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(128<<10))
	if err != nil {
		panic(err)
	}
	return z
}

func bareDeflate(w io.Writer) flusher {
	z, err := flate.NewWriter(w, 6)
	if err != nil {
		panic(err)
	}
	return z
}

func compress(t testing.TB, with func(io.Writer) flusher, body []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := with(&b)
	if _, err := z.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// read inflates a body that arrives in pieces of a size.
func read(t testing.TB, header string, body []byte, size int, whole bool) (got []byte, reason string) {
	t.Helper()
	s, ok := New([]byte(header), func(p []byte, _, _ int64) { got = append(got, p...) }, nil)
	if !ok || s == nil {
		t.Fatalf("%s: nothing to inflate (known %v)", header, ok)
	}
	for len(body) > 0 {
		n := min(size, len(body))
		s.Write(body[:n], 1, 2)
		body = body[n:]
	}
	s.Close(whole)
	return got, s.Wait()
}

// document is JSON of about n bytes that compresses as such does.
func document(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	b.WriteString(`{"model":"m","messages":[`)
	for b.Len() < n {
		fmt.Fprintf(&b, `{"role":"user","content":"%x and %s"},`, r.Uint64(), strings.Repeat("some words ", r.IntN(6)))
	}
	b.WriteString(`{}]}`)
	return b.Bytes()
}

// TestCodings: every coding and stack of them, under every name and in pieces of any size, gives what was compressed.
func TestCodings(t *testing.T) {
	doc := document(40 << 10)
	half := len(doc) / 2
	members := append(compress(t, compressors["gzip"], doc[:half]), compress(t, compressors["gzip"], doc[half:])...)
	frames := append(compress(t, newZstdWriter, doc[:half]), compress(t, newZstdWriter, doc[half:])...)
	for _, c := range []struct {
		name, header string
		body         []byte
	}{
		{"gzip", "gzip", compress(t, compressors["gzip"], doc)},
		{"gzip, another case", " GZip ", compress(t, compressors["gzip"], doc)},
		{"x-gzip", "X-gzip", compress(t, compressors["gzip"], doc)},
		{"gzip, two members", "gzip", members},
		{"deflate", "deflate", compress(t, compressors["deflate"], doc)},
		{"deflate without zlib's head", "Deflate", compress(t, bareDeflate, doc)},
		{"brotli", "br", compress(t, compressors["br"], doc)},
		{"brotli, a large window", "br", compress(t, func(w io.Writer) flusher {
			return brotli.NewWriterOptions(w, brotli.WriterOptions{Quality: 9, LGWin: 24})
		}, doc)},
		{"zstd", "zstd", compress(t, newZstdWriter, doc)},
		{"zstd, two frames", "ZSTD", frames},
		{"zstd, a skippable frame", "zstd", append([]byte("\x50\x2a\x4d\x18\x03\x00\x00\x00abc"), frames...)},
		{"gzip in brotli", "gzip, br", compress(t, compressors["br"], compress(t, compressors["gzip"], doc))},
		{"identity between", "deflate,identity ,, zstd", compress(t, newZstdWriter, compress(t, compressors["deflate"], doc))},
		{"zstd in zstd", "zstd, zstd", compress(t, newZstdWriter, compress(t, newZstdWriter, doc))},
	} {
		for _, size := range []int{1, 7, 1000, len(c.body)} {
			if got, why := read(t, c.header, c.body, size, true); !bytes.Equal(got, doc) || why != "" {
				t.Errorf("%s in pieces of %d: %d of %d bytes, %q", c.name, size, len(got), len(doc), why)
			}
		}
	}
	for header, known := range map[string]bool{"": true, "identity": true, "chunked": true, "compress": false, "gzip, dcb": false, "gzip,gzip,gzip,gzip,gzip": false} {
		if s, ok := New([]byte(header), nil, nil); s != nil || ok != known {
			t.Errorf("%q: known %v, want %v", header, ok, known)
		}
	}
}

// TestStamps: what a stream's server flushed has the stamps of the piece that completed it.
func TestStamps(t *testing.T) {
	for name, with := range compressors {
		var b bytes.Buffer
		var text, want string
		var got, ends []string
		s, _ := New([]byte(name), func(p []byte, read, written int64) {
			text += string(p)
			if strings.HasSuffix(text, "\n") {
				got = append(got, fmt.Sprintf("%s%d %d", text, read, written))
			}
		}, nil)
		s.Live = name != "gzip"
		z := with(&b)
		for i := range int64(5) {
			event := fmt.Sprintf("data: %d\n", i)
			want += event
			ends = append(ends, fmt.Sprintf("%s%d %d", want, 10*i, 10*i+1))
			_, _ = io.WriteString(z, event)
			if err := z.Flush(); err != nil {
				t.Fatal(err)
			}
			s.Write(b.Bytes()[:b.Len()/2], 10*i-5, 10*i-4)
			s.Write(b.Bytes()[b.Len()/2:], 10*i, 10*i+1)
			b.Reset()
		}
		_ = z.Close()
		s.Write(b.Bytes(), 100, 101)
		s.Close(true)
		if why := s.Wait(); why != "" || !slices.Equal(got, ends) {
			t.Errorf("%s: %q, %q; want %q", name, why, got, ends)
		}
	}
}

// TestFaults: what cannot be inflated says why, after what could.
func TestFaults(t *testing.T) {
	doc := document(40 << 10)
	for name, with := range compressors {
		body := compress(t, with, doc)
		damaged := bytes.Clone(body)
		for i := len(damaged) / 2; i < len(damaged)/2+40; i++ {
			damaged[i] ^= 0x55
		}
		bomb := compress(t, with, make([]byte, bombBytes+1<<20))
		for _, c := range []struct {
			what  string
			body  []byte
			whole bool
			want  string
		}{
			{"cut", body[:len(body)/2], true, meter.UnreadCut},
			{"cut with the body", body[:len(body)/2], false, ""},
			{"one byte", body[:1], true, meter.UnreadCut},
			{"damaged", damaged, true, meter.UnreadCorrupt},
			{"more behind", append(bytes.Clone(body), "a tail that is longer than a head"...), true, meter.UnreadCorrupt},
			{"plain", doc, true, meter.UnreadCorrupt},
			{"bomb", bomb, true, meter.UnreadBomb},
		} {
			got, why := read(t, name, c.body, 1000, c.whole)
			if why != c.want {
				t.Errorf("%s, %s: %q after %d bytes, want %q", name, c.what, why, len(got), c.want)
			}
			if strings.HasPrefix(c.what, "cut") && (len(got) == 0 && name != "zstd" || // its block is all or nothing
				!bytes.HasPrefix(doc, got)) {
				t.Errorf("%s, %s: %d bytes, which are not the body's beginning", name, c.what, len(got))
			}
			if c.what == "bomb" && len(got) > bombBytes+outputBytes {
				t.Errorf("%s: %d bytes were inflated of a bomb", name, len(got))
			}
		}
	}
	s, _ := New([]byte("gzip"), nil, nil)
	s.Close(true)
	if why := s.Wait(); why != "" {
		t.Errorf("no body: %q", why)
	}
	big := compress(t, func(w io.Writer) flusher {
		z, _ := zstd.NewWriter(w, zstd.WithWindowSize(64<<20))
		return z
	}, document(3<<20))
	if _, why := read(t, "zstd", big, 1<<16, true); why != meter.UnreadWindow {
		t.Errorf("a zstd window of 64 MiB: %q", why)
	}
	if n := shared.Load(); n != 0 {
		t.Errorf("%d bytes are still reserved", n)
	}
}

// TestLargeWindows: bodies larger than a small window are read to their end, and what they need beyond is given back.
func TestLargeWindows(t *testing.T) {
	doc := document(3 << 20)
	for name, with := range map[string]func(io.Writer) flusher{
		"zstd": func(w io.Writer) flusher {
			z, _ := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedBetterCompression))
			return z
		},
		"br": func(w io.Writer) flusher {
			return brotli.NewWriterOptions(w, brotli.WriterOptions{Quality: 5, LGWin: 22})
		},
		"gzip": compressors["gzip"],
	} {
		body := compress(t, with, doc)
		var got int
		s, _ := New([]byte(name), func(p []byte, _, _ int64) { got += len(p) }, nil)
		s.Live = true
		for len(body) > 0 { // as fast as it is read
			n := min(4096, len(body))
			s.Write(body[:n], 1, 2)
			body = body[n:]
			for s.backlog() > 0 {
				runtime.Gosched()
			}
		}
		s.Close(true)
		if why := s.Wait(); got != len(doc) || why != "" || shared.Load() != 0 {
			t.Errorf("%s: %d of %d bytes, %q, %d bytes still reserved", name, got, len(doc), why, shared.Load())
		}
	}
}

func (s *Stream) backlog() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return 0
	}
	return s.held
}

// TestBehind: a body that comes faster than it is read is read up to where its pieces found no room, and the writer never
// waits.
func TestBehind(t *testing.T) {
	r := rand.NewChaCha8([32]byte{})
	noise := make([]byte, 3*maxBytes)
	_, _ = r.Read(noise)
	body := compress(t, compressors["gzip"], noise)
	hold := make(chan struct{})
	var got []byte
	s, _ := New([]byte("gzip"), func(p []byte, _, _ int64) { <-hold; got = append(got, p...) }, nil)
	for i := 0; i < len(body); i += 1 << 15 {
		s.Write(body[i:min(i+1<<15, len(body))], 1, 2)
	}
	if s.held > s.limit || s.limit+gzipBytes > maxBytes {
		t.Errorf("%d bytes wait, the limit is %d", s.held, s.limit)
	}
	s.Close(true)
	close(hold)
	if why := s.Wait(); why != meter.UnreadBehind || len(got) < maxBytes/2 || !bytes.HasPrefix(noise, got) {
		t.Errorf("%q after %d bytes", why, len(got))
	}
}

// TestMemory: whatever a body inflates to, reading it takes less than 1 MiB.
func TestMemory(t *testing.T) {
	for name, with := range compressors {
		for what, size := range map[string]int{"bomb": bombBytes + 1<<20, "document": 40 << 10} {
			body := compress(t, func(w io.Writer) flusher {
				if name == "br" {
					return brotli.NewWriterOptions(w, brotli.WriterOptions{Quality: 4, LGWin: 18})
				}
				return with(w)
			}, make([]byte, size))
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			s, _ := New([]byte(name), func([]byte, int64, int64) {}, nil)
			s.Write(body, 1, 2)
			s.Close(true)
			s.Wait()
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > maxBytes {
				t.Errorf("%s, %s: %d bytes allocated", name, what, n)
			}
		}
	}
}

// FuzzInflate: whatever is compressed, however it is split and wherever it is damaged: what is shown is the beginning of
// what a whole reading gives, all of it if nothing is wrong, and a fault is told.
func FuzzInflate(f *testing.F) {
	f.Add([]byte(`{"model":"m"}`), byte(0), byte(3), -1, byte(0))
	f.Add(document(2000), byte(0x1b), byte(90), 100, byte(1))
	f.Add([]byte(""), byte(2), byte(0), 0, byte(0))
	f.Add(document(500), byte(3), byte(9), 50, byte(0x80))
	names := []string{"gzip", "deflate", "br", "zstd"}
	f.Fuzz(func(t *testing.T, doc []byte, stack, size byte, at int, flip byte) {
		if len(doc) > 1<<16 {
			return
		}
		header, body := names[stack&3], compress(t, compressors[names[stack&3]], doc)
		if stack&16 != 0 {
			header, body = header+", "+names[stack>>2&3], compress(t, compressors[names[stack>>2&3]], body)
		}
		intact := flip == 0
		if at >= 0 && len(body) > 0 {
			body[at%len(body)] ^= flip
		}
		if flip == 0x80 {
			body = body[:at&0xffff%(len(body)+1)]
		}
		got, why := read(t, header, body, int(size)+1, true)
		if intact && (why != "" || !bytes.Equal(got, doc)) {
			t.Fatalf("%s: %d of %d bytes, %q", header, len(got), len(doc), why)
		}
		if whole, ok := reference(header, body); ok && (why != "" || !bytes.Equal(got, whole)) && len(whole) < bombBytes {
			t.Fatalf("%s: a whole reading gives %d bytes, this one %d and %q", header, len(whole), len(got), why)
		} else if !ok && why == "" && len(body) > 0 {
			t.Fatalf("%s: a whole reading fails, this one gives %d bytes and no reason", header, len(got))
		}
	})
}

// reference reads a whole body with each library's plain reader.
func reference(header string, body []byte) ([]byte, bool) {
	names := strings.Split(header, ", ")
	for i := len(names) - 1; i >= 0; i-- {
		src := bytes.NewReader(body)
		var r io.Reader
		var err error
		switch names[i] {
		case "gzip":
			r, err = gzip.NewReader(src)
		case "deflate":
			if len(body) > 1 && body[0]&15 == 8 && body[0] < 0x80 && (int(body[0])<<8+int(body[1]))%31 == 0 {
				r, err = zlib.NewReader(src)
			} else {
				r = flate.NewReader(src)
			}
		case "br":
			r = brotli.NewReader(src)
		case "zstd":
			r, err = zstd.NewReader(src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(smallWindow))
		}
		if err != nil {
			return nil, false
		}
		out, err := io.ReadAll(io.LimitReader(r, bombBytes+1))
		if err != nil || src.Len() > 0 || len(body) == 0 {
			return nil, false
		}
		body = out
	}
	return body, true
}

// BenchmarkDocument is a compressed 40 kB document from Write to Wait: CPU time of the process, the relay's part of it
// (copying) in write-ns/op.
func BenchmarkDocument(b *testing.B) {
	for _, name := range []string{"gzip", "deflate", "br", "zstd"} {
		b.Run(name, func(b *testing.B) {
			body := compress(b, compressors[name], document(40_000))
			b.ReportAllocs()
			var writing time.Duration
			cpu := metertest.CPUTime()
			for b.Loop() {
				began := time.Now()
				s, _ := New([]byte(name), func([]byte, int64, int64) {}, nil)
				s.Write(body, 1, 2)
				writing += time.Since(began)
				s.Close(true)
				if why := s.Wait(); why != "" {
					b.Fatal(why)
				}
			}
			b.ReportMetric(float64(metertest.CPUTime()-cpu)/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(writing.Nanoseconds())/float64(b.N), "write-ns/op")
		})
	}
}

// TestReusedBuffers: what is shown does not change when the caller uses its buffer again, nor when several Streams share the
// pools; pieces of every size.
func TestReusedBuffers(t *testing.T) {
	body := compress(t, compressors["gzip"], document(300_000))
	want, _ := read(t, "gzip", body, len(body), true)
	var wg sync.WaitGroup
	for _, size := range []int{100, 2048, 4096, 5000, 32 << 10, 40_000} {
		wg.Go(func() {
			var got []byte
			s, _ := New([]byte("gzip"), func(p []byte, _, _ int64) { got = append(got, p...) }, nil)
			s.Live = true
			buf := make([]byte, size)
			for rest := body; len(rest) > 0; {
				n := copy(buf, rest)
				rest = rest[n:]
				s.Write(buf[:n], 1, 2)
				clear(buf)
			}
			s.Close(true)
			if why := s.Wait(); why != "" || !bytes.Equal(got, want) {
				t.Errorf("pieces of %d bytes: %d of %d bytes, %q", size, len(got), len(want), why)
			}
		})
	}
	wg.Wait()
}
