package meter

import (
	"bytes"
	"runtime"
	"strings"
	"testing"
	"unsafe"
)

// perStream bounds one exchange's memory, whatever passes.
const perStream = 128 << 10

// widestSketch is a sketch's memory when gaps of every length have been seen.
func widestSketch() int {
	s := NewSketch()
	s.Add(shortestGapNs)
	s.Add(longestGapNs)
	return 4 * cap(s.count)
}

func TestMeterSize(t *testing.T) {
	const stamps = 1024
	size := int(unsafe.Sizeof(Meter{})) + widestSketch() + stamps*int(unsafe.Sizeof(Stamp{}))
	size += 12 * keepBytes // texts, at their longest
	t.Logf("Meter %d bytes, with its sketch and %d stamps %d", unsafe.Sizeof(Meter{}), stamps, size)
	if size > perStream {
		t.Errorf("%d bytes a stream, want at most %d", size, perStream)
	}
}

// hostile are bodies made to grow: each is a head, then a part repeated up to many megabytes.
var hostile = []struct{ name, head, part string }{ //nolint:gochecknoglobals // a table
	{"one endless string", `data: {"model":"`, "x"},
	{"endless string with escapes", `data: {"choices":[{"delta":{"content":"`, `\\\"`},
	{"endless wanted text", `data: {"error":{"message":"`, "no "},
	{"endless name", `data: {"`, "k"},
	{"endless number", `data: {"timings":{"prompt_ms":`, "9"},
	{"deep arrays", `data: `, "["},
	{"deep objects", `data: `, `{"a":`},
	{"deep in a known member", `data: {"choices":`, `[{"delta":`},
	{"many choices", `data: {"choices":[`, `{"index":7,"delta":{"content":"x"}},`},
	{"many finish reasons", `data: {"choices":[`, `{"finish_reason":"a"},{"finish_reason":"b"},`},
	{"many members", `data: {"a":1`, `,"model":"m","b":2`},
	{"invalid UTF-8", `data: {"model":"`, "\xff\xfe\xc0"},
	{"NULs", "data: ", "\x00"},
	{"NULs in a string", `data: {"model":"`, "\x00"},
	{"endless comments", "", ": ping\n"},
	{"one endless comment", ":", "x"},
	{"endless field name", "", "datadata"},
	{"endless data lines", "", "data: {\n"},
	{"blank lines", "", "\r\n"},
	{"spaces", "data:", " "},
	{"broken events", "", "data: }\n\n"},
	{"many completions", "", "data: {\"choices\":[{\"index\":4000000000,\"delta\":{\"content\":\"x\"}}]}\n\n"},
	{"many outputs", "", "data: {\"content\":\"x\"}\n\n"},
	{"many totals", "", "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9007199254740991}}\n\n"},
}

// TestHostileMemory shows the meter 24 MB of each hostile body as a stream, as a document and as a
// request, and counts every byte that it allocates meanwhile.
func TestHostileMemory(t *testing.T) {
	const volume = 8 << 20
	for _, h := range hostile {
		piece := []byte(strings.Repeat(h.part, 32<<10/len(h.part)+1))
		header := func(kind string) func(string) []byte {
			return func(name string) []byte {
				if name == "Content-Type" {
					return []byte(kind)
				}
				return nil
			}
		}
		for _, kind := range []string{"text/event-stream", "application/json"} {
			var m Meter
			head := []byte(h.head)
			if kind == "application/json" {
				head = bytes.TrimPrefix(head, []byte("data: "))
			}
			spent := allocated(func() {
				m.BeginRequest(RequestHead{Path: "/v1/chat/completions", Header: header(kind), KeepStamps: 1024})
				m.RequestBody(head)
				m.BeginReply(ReplyHead{Status: 200, Header: header(kind), At: 1})
				m.ReplyBody(head, 2, 3)
				for n := 0; n < volume; n += len(piece) {
					m.RequestBody(piece)
					m.ReplyBody(piece, int64(4+n), int64(5+n))
				}
				m.Fill(&Record{}, Marks{P0: 1, P1: 1, H: 1, E: 1e9}, true)
			})
			if spent > perStream {
				t.Errorf("%s as %s: %d bytes allocated for one exchange, want at most %d", h.name, kind, spent, perStream)
			}
		}
	}
}

// allocated counts the bytes that f allocates, freed ones included.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
