package trace

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"wattline/meter"
)

// TestFormats: small files of every format, made for this test, are recognised by their content and read whole, gzipped
// or not.
func TestFormats(t *testing.T) {
	for file, want := range map[string]string{
		"mooncake.jsonl":        "mooncake, 5 records, 3 sessions, blocks of 512, relative clock (ms) from 1000, 30s | 1 record without a reply (0 tokens) (line 4)",
		"azure2023.csv":         "azure, 4 records, 4 sessions, blocks of 0, absolute clock (date) from 2023-11-16 18:17:03.9799600, 29.479069s |",
		"azure2024.csv":         "azure, 3 records, 3 sessions, blocks of 0, absolute clock (date) from 2024-05-10 00:00:00.009930+00:00, 1m0.032384s |",
		"burstgpt.csv":          "burstgpt, 4 records, 4 sessions, blocks of 0, relative clock (s) from 5, 1m56.5s | 1 record without a reply (0 tokens) (line 5)",
		"burstgpt-sessions.csv": "burstgpt, 4 records, 2 sessions, blocks of 0, relative clock (s) from 19440110.0, 2m24s |",
		"weka.jsonl":            "weka, 6 records, 3 sessions, blocks of 64, relative clock (s) from 0, 20s |",
		"weka.json":             "weka, 5 records, 2 sessions, blocks of 64, relative clock (s) from 0, 20s |",
		"wattline.jsonl":        "wattline, 4 records, 3 sessions, blocks of 16, relative clock (us) from 0, 9s |",
	} {
		path := filepath.Join("testdata", file)
		plain, err := Read(path)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		got := fmt.Sprintf("%s, %d records, %d sessions, blocks of %d, %s, %v |", plain.Format, len(plain.Records), plain.Sessions(), plain.BlockTokens, plain.Clock, plain.Span())
		for _, p := range plain.Impossible {
			got += " " + p.String()
		}
		if got != want {
			t.Errorf("%s: %s\nwant %s", file, got, want)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		packed := filepath.Join(t.TempDir(), file+".gz")
		write(t, packed, zipped(t, text))
		again, err := Read(packed)
		if err != nil {
			t.Errorf("%s gzipped: %v", file, err)
		} else if !reflect.DeepEqual(again.Records, plain.Records) {
			t.Errorf("%s: gzipped, its records are others", file)
		}
	}
}

// TestSessions: turns continue the turn that had ended, with the think time in between; a sub-agent is a session of its own.
func TestSessions(t *testing.T) {
	weka, err := Read(filepath.Join("testdata", "weka.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	none := meter.Int{}
	for i, want := range []struct {
		at      time.Duration
		in      int
		parent  int
		session int
		turn    int
		think   meter.Int
		blocks  []Block
	}{
		{0, 200, -1, 1, 1, none, []Block{{1, 64}, {2, 64}, {3, 64}, {4, 8}}},
		{0, 130, -1, 2, 1, none, []Block{{5, 64}, {6, 64}, {7, 2}}}, // another conversation: its ids are others
		{5 * time.Second, 300, 0, 1, 2, meter.Some(1_500_000), []Block{{1, 64}, {2, 64}, {3, 64}, {8, 64}, {9, 44}}},
		{8500 * time.Millisecond, 128, -1, 3, 1, none, []Block{{10, 64}, {11, 64}}},
		{12 * time.Second, 190, 3, 3, 2, meter.Some(2_500_000), []Block{{10, 64}, {11, 64}, {12, 62}}},
		{20 * time.Second, 400, 2, 1, 3, meter.Some(13_000_000), []Block{{1, 64}, {2, 64}, {3, 64}, {8, 64}, {9, 64}, {13, 64}, {14, 16}}},
	} {
		r := weka.Records[i]
		if r.Offset != want.at || r.Input != want.in || r.Parent != want.parent || r.Session != want.session || r.Turn != want.turn || r.ThinkUs != want.think {
			t.Errorf("record %d: %+v, want %+v", i, r, want)
		}
		if !reflect.DeepEqual(r.Blocks, want.blocks) {
			t.Errorf("record %d: blocks %v, want %v", i, r.Blocks, want.blocks)
		}
	}
	burst, err := Read(filepath.Join("testdata", "burstgpt-sessions.csv"))
	if err != nil {
		t.Fatal(err)
	}
	if r := burst.Records[2]; r.Parent != 0 || r.ThinkUs != meter.Some(39_000_000) || r.Observed.DurationUs != meter.Some(8_000_000) {
		t.Errorf("a turn of BurstGPT: %+v", r)
	}
	// A request that began while the session's earlier one ran does not continue it.
	path := filepath.Join(t.TempDir(), "beside")
	write(t, path, []byte("Timestamp,Session ID,Elapsed time,Request tokens,Response tokens\n0,a,60,10,5\n20,a,5,10,5\n40,a,5,20,5\n"))
	if beside, err := Read(path); err != nil || beside.Records[1].Parent != -1 || beside.Records[2].Parent != 1 {
		t.Errorf("a request beside another: %+v %v", beside, err)
	}
	// Mooncake names no sessions: they are inferred, and nothing waits.
	moon, err := Read(filepath.Join("testdata", "mooncake.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var sessions []int
	for _, r := range moon.Records {
		sessions = append(sessions, r.Session)
		if r.Parent >= 0 {
			t.Errorf("line %d waits for record %d", r.Line, r.Parent)
		}
	}
	if fmt.Sprint(sessions) != "[1 2 1 1 3]" {
		t.Errorf("sessions %v", sessions)
	}
}

// TestBadFiles: each is refused with one sentence that says what is wrong.
func TestBadFiles(t *testing.T) {
	moon := func(at, in, out string) string {
		return `{"timestamp": ` + at + `, "input_length": ` + in + `, "output_length": ` + out + `, "hash_ids": [1]}` + "\n"
	}
	long, err := os.ReadFile(filepath.Join("testdata", "mooncake.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	packed := string(zipped(t, bytes.Repeat(long, 200)))
	manifest := `{"wattline_trace":1,"block_tokens":16,"records":1,"sessions":1,"span_us":0}` + "\n"
	for name, c := range map[string]struct{ text, says string }{
		"empty":                  {"", "it is empty"},
		"another file":           {"# A page\n\nof text\n", `no trace of a known format`},
		"other JSON":             {`{"prompt": "x"}` + "\n", "no trace of a known format"},
		"cut gzip":               {packed[:len(packed)/2], "the gzip file is cut off"},
		"damaged gzip":           {packed[:40] + "xxxx" + packed[44:], "gzip"},
		"gzip of nothing":        {"\x1f\x8b", "the gzip file is cut off"},
		"wrong columns":          {"TIMESTAMP,ContextTokens,Generated\n2023-11-16 18:17:03,1,2\n", "no column GeneratedTokens, only TIMESTAMP, ContextTokens, Generated"},
		"a column too few":       {"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,1\n", "line 2 does not have the columns of the first line"},
		"no number":              {"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,many,2\n", `line 2 has "many" as ContextTokens`},
		"negative":               {moon("0", "10", "5") + moon("1", "-10", "5"), "line 2 has a negative length (-10 tokens in, 5 out)"},
		"negative reply":         {"Timestamp,Request tokens,Response tokens\n5,10,-1\n", "line 2 has a negative length"},
		"huge":                   {moon("0", "1000000000", "5"), "line 1 has a length beyond"},
		"no times":               {`{"input_length": 5, "output_length": 5}`, "line 1 has no timestamp"},
		"unsorted":               {moon("5000", "10", "5") + moon("4000", "10", "5"), "line 2 is 1s earlier than the line before it: sort"},
		"two clocks":             {moon("5000", "10", "5") + moon("1700000000000", "10", "5"), "two clocks"},
		"two clocks, the other":  {moon("1700000000000", "10", "5") + moon("5000", "10", "5"), "two clocks"},
		"two clocks, CSV":        {"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,1,2\n17.5,1,2\n", "line 3 has the time \"17.5\", which is no date"},
		"two clocks, ms and s":   {"Timestamp,Request tokens,Response tokens\n1700000000,10,1\n1700000005000,10,1\n", "two clocks"},
		"cut JSON":               {moon("0", "10", "5") + `{"timestamp": 5, "inp`, "line 2 is no record"},
		"cut Weka":               {`{"id":"a","block_size":64,"requests":[{"t":0,"type":"s","in":5,"out":5,"hash_ids":[1]}` + "\n", "conversation 1 is cut off"},
		"Weka unsorted":          {`{"id":"a","block_size":64,"requests":[{"t":3,"type":"s","in":5,"out":5},{"t":2,"type":"s","in":5,"out":5}]}`, "request 2 of session 1 is earlier"},
		"Weka without blocks":    {`{"id":"a","requests":[{"t":3,"type":"s","in":5,"out":5}]}`, "blocks of 0 tokens"},
		"Weka of texts":          {`{"id":"a","block_size":64,"requests":[{"t":"now","type":"s","in":5,"out":5}]}`, "has a string as"},
		"only failures":          {"Timestamp,Request tokens,Response tokens\n5,10,0\n6,10,0\n", "none of its records can be sent: 2 records without a reply (0 tokens) (lines 2, 3)"},
		"a time below 0":         {moon("-5", "10", "5"), "line 1 has the time -5, which is before 0"},
		"no key":                 {moon("0", "10", "5") + `{"timestamp": 5, "input_length": 10}`, "line 2 has no output_length"},
		"a block below 0":        {`{"timestamp": 5, "input_length": 10, "output_length": 5, "hash_ids": [-1]}`, "line 1 is no record: its hash_ids is a number -1, which is not possible there"},
		"half a token":           {moon("0", "10.5", "5"), "line 1 has an input_length of 10.5, which is no number of tokens"},
		"a delay below 0":        {`{"timestamp": 5, "input_length": 10, "output_length": 5, "session_id": "a", "delay": -5}`, "line 1 has a negative time (delay is -5)"},
		"a long delay":           {`{"timestamp": 5, "input_length": 10, "output_length": 5, "session_id": "a", "delay": 1e300}`, "line 1 has a time of more than a year (delay is 1e+300)"},
		"a delay after nothing":  {`{"input_length": 10, "output_length": 5, "session_id": "a", "delay": 5}`, "line 1 has no timestamp, and no delay after an earlier line"},
		"blocks of no size":      {strings.Repeat(moon("0", "10000", "5"), 3), "most of its hash_ids fit no size of blocks: blocks of 512 tokens fit the input_length of 0 of 3 lines"},
		"a long api_time":        {`{"id":"a","block_size":64,"requests":[{"t":3,"type":"s","in":5,"out":5,"api_time":1e12}]}`, "request 1 of session 1 has a time of more than a year (api_time is 1e+12)"},
		"a long reply, CSV":      {"Timestamp,Elapsed time,Request tokens,Response tokens\n5,1e12,10,1\n", "line 2 has a time of more than a year"},
		"a line below a blank":   {"\n\nTimestamp,Request tokens,Response tokens\n5,10,-1\n", "line 4 has a negative length"},
		"a long think_us":        {manifest + `{"at_us":0,"in":5,"out":5,"think_us":9000000000000000000}`, "line 2 has a time of more than a year (think_us is 9e+18)"},
		"a large at_us":          {manifest + `{"at_us":9300000000000000,"in":5,"out":5}`, "line 2 has the time at_us 9300000000000000"},
		"a negative at_us":       {manifest + `{"at_us":-1,"in":5,"out":5}`, "line 2 has the time at_us -1"},
		"only a header":          {"Timestamp,Request tokens,Response tokens\n", "no record behind its first line"},
		"another version":        {`{"wattline_trace":7}` + "\n", "a trace of version 7"},
		"cut wattline":           {`{"wattline_trace":1,"records":3}` + "\n" + `{"at_us":0,"in":5,"out":5}` + "\n", "it has 1 records, and its first line says 3"},
		"no such parent":         {manifest + `{"at_us":0,"in":5,"out":5,"parent":1}`, "line 2 continues record 1, which does not stand before it"},
		"blocks that do not fit": {manifest + `{"at_us":0,"in":5,"out":5,"blocks":[1,2]}`, "line 2 has 2 blocks of 16 tokens for a prompt of 5"},
		"sizes that do not fit":  {manifest + `{"at_us":0,"in":5,"out":5,"blocks":[1],"sizes":[4]}`, "blocks of 4 tokens together for a prompt of 5"},
	} {
		path := filepath.Join(t.TempDir(), "trace")
		write(t, path, []byte(c.text))
		_, err := Read(path)
		if err == nil || !strings.Contains(err.Error(), c.says) || !strings.HasPrefix(err.Error(), path+": ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
	if _, err := Read(filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("no file: %v", err)
	}
}

// TestImpossibleBlocks: a line whose blocks do not fit its prompt is left out and named.
func TestImpossibleBlocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trace")
	write(t, path, []byte(`{"timestamp":0,"input_length":600,"output_length":5,"hash_ids":[1,2]}
{"timestamp":1,"input_length":600,"output_length":5,"hash_ids":[1,2,3]}
`))
	got, err := Read(path)
	if err != nil || len(got.Records) != 1 || len(got.Impossible) != 1 || got.Impossible[0].String() != "1 record whose hash_ids of 512 tokens do not fit the prompt (line 2)" {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestOtherMooncakes: the same form with absolute times, other units and other blocks.
func TestOtherMooncakes(t *testing.T) {
	for text, want := range map[string]string{
		`{"timestamp":"1753780607550317897","input_length":40,"output_length":5,"hash_ids":[18446744073709551615,2,9]}
{"timestamp":"1753780608050317897","input_length":40,"output_length":5,"hash_ids":[7,2,9]}
`: "absolute clock (ns) from 1753780607550317897, 500ms, blocks of 16 [{1 16} {2 16} {3 8}] [{4 16} {2 16} {3 8}]",
		`{"timestamp":1753780607.5,"input_length":512,"output_length":5,"session_id":"a"}
{"timestamp":1753780609,"input_length":600,"output_length":5,"session_id":"a","delay":250}
`: "absolute clock (s) from 1753780607.5, 1.5s, blocks of 0 [] []",
	} {
		path := filepath.Join(t.TempDir(), "trace")
		write(t, path, []byte(text))
		got, err := Read(path)
		if err != nil {
			t.Error(err)
			continue
		}
		if said := fmt.Sprintf("%s, %v, blocks of %d %v %v", got.Clock, got.Span(), got.BlockTokens, got.Records[0].Blocks, got.Records[1].Blocks); said != want {
			t.Errorf("%s\nwant %s", said, want)
		}
		if r := got.Records[1]; got.BlockTokens == 0 && (r.Parent != 0 || r.ThinkUs != meter.Some(250_000)) {
			t.Errorf("a turn with a delay: %+v", r)
		}
	}
}

// readText reads a trace from a text.
func readText(t *testing.T, text string) *Trace {
	t.Helper()
	path := filepath.Join(t.TempDir(), "trace")
	write(t, path, []byte(text))
	got, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestBlockSize: the size of blocks is the one that fits most lines, not the first.
func TestBlockSize(t *testing.T) {
	got := readText(t, `{"timestamp":0,"input_length":10,"output_length":5,"hash_ids":[1]}
{"timestamp":1,"input_length":40.0,"output_length":5,"hash_ids":[1,2,3]}
{"timestamp":2,"input_length":90,"output_length":5,"hash_ids":[1,2,3,4,5,6]}
`)
	if got.BlockTokens != 16 || len(got.Records) != 3 || len(got.Impossible) != 0 {
		t.Errorf("blocks of %d, %d records, left out %v", got.BlockTokens, len(got.Records), got.Impossible)
	}
}

// TestBailian: Alibaba's traces count in seconds, and say which turn a request continues.
func TestBailian(t *testing.T) {
	got := readText(t, `{"chat_id":7,"parent_chat_id":-1,"timestamp":0.5,"input_length":20,"output_length":5,"type":"text","turn":1,"hash_ids":[1,2]}
{"chat_id":8,"parent_chat_id":3,"timestamp":1.5,"input_length":20,"output_length":5,"type":"text","turn":2,"hash_ids":[8,9]}
{"chat_id":9,"parent_chat_id":7,"timestamp":62,"input_length":40,"output_length":5,"type":"text","turn":2,"hash_ids":[1,3,4]}
`)
	last := got.Records[2]
	if got.Format != "bailian" || got.BlockTokens != 16 || got.Span() != 61500*time.Millisecond || got.Sessions() != 2 ||
		last.Parent != 0 || last.Turn != 2 || last.ThinkUs.Valid || got.Records[1].Parent != -1 {
		t.Errorf("%+v", got)
	}
}

// TestDelays: a line without a timestamp came its delay after the session's earlier line.
func TestDelays(t *testing.T) {
	got := readText(t, `{"session_id":"a","timestamp":100,"input_length":20,"output_length":5}
{"session_id":"a","delay":3000,"input_length":40,"output_length":5}
{"session_id":"b","timestamp":1100,"input_length":20,"output_length":5}
`)
	said := ""
	for _, r := range got.Records {
		said += fmt.Sprint(r.Line, r.Offset, r.Session, r.Parent, r.ThinkUs.V, "; ")
	}
	if said != "1 0s 1 -1 0; 3 1s 2 -1 0; 2 3s 1 0 3000000; " {
		t.Errorf("records: %s", said)
	}
}

// TestParallelTurns: requests beside each other in one session are no turns of each other, where their blocks tell.
func TestParallelTurns(t *testing.T) {
	line := func(at, in int, ids string) string {
		return fmt.Sprintf(`{"session_id":1,"timestamp":%d,"input_length":%d,"output_length":5,"hash_ids":[%s]}`+"\n", at, in, ids)
	}
	got := readText(t, line(0, 1100, "1,2,3")+line(10, 1100, "7,8,9")+line(9000, 1700, "1,2,4,5")+line(9010, 1700, "7,8,10,11"))
	parents := ""
	for _, r := range got.Records {
		parents += fmt.Sprint(r.Parent, " ")
	}
	if parents != "-1 -1 0 1 " {
		t.Errorf("parents %s", parents)
	}
}

// TestLargeMilliseconds: milliseconds that could be seconds since 1970 are milliseconds, unless the gaps are those of seconds.
func TestLargeMilliseconds(t *testing.T) {
	for text, want := range map[string]string{
		`{"timestamp":700000000,"input_length":20,"output_length":5}
{"timestamp":700003000,"input_length":20,"output_length":5}
`: "relative clock (ms) from 700000000 3s",
		`{"timestamp":1700000000,"input_length":20,"output_length":5}
{"timestamp":1700000003,"input_length":20,"output_length":5}
`: "absolute clock (s) from 1700000000 3s",
	} {
		if got := readText(t, text); fmt.Sprint(got.Clock, " ", got.Span()) != want {
			t.Errorf("%s %v, want %s", got.Clock, got.Span(), want)
		}
	}
}

// TestRelativeSubAgents: where the times of a sub-agent's requests count from its beginning, they are added to it.
func TestRelativeSubAgents(t *testing.T) {
	got := readText(t, `{"id":"a","block_size":64,"requests":[{"t":0,"type":"s","in":100,"out":5,"hash_ids":[1,2]},{"t":500,"type":"subagent","requests":[`+
		`{"t":0,"type":"n","in":100,"out":5,"hash_ids":[7,8],"api_time":8},{"t":12,"type":"n","in":200,"out":5,"hash_ids":[7,8,9,10],"api_time":8},`+
		`{"t":40,"type":"n","in":300,"out":5,"hash_ids":[7,8,9,10,11],"api_time":8}]}]}`)
	said := ""
	for _, r := range got.Records {
		said += fmt.Sprint(r.Offset, r.Parent, r.ThinkUs.V, "; ")
	}
	if said != "0s -1 0; 8m20s -1 0; 8m32s 1 4000000; 9m0s 2 20000000; " || len(got.Notes) != 1 {
		t.Errorf("records: %s %v", said, got.Notes)
	}
}

// TestRecordLimit: reading ends at the limit, in each format.
func TestRecordLimit(t *testing.T) {
	for _, file := range []string{"mooncake.jsonl", "azure2023.csv", "burstgpt.csv", "weka.jsonl", "wattline.jsonl"} {
		text, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		from := &Trace{most: 2}
		if err := from.readFrom(bytes.NewReader(text)); err == nil || !strings.Contains(err.Error(), "more than 2 records") || len(from.Records) > 2 {
			t.Errorf("%s: %d records, %v", file, len(from.Records), err)
		}
	}
}

// TestWrite: what Write writes, Read reads.
func TestWrite(t *testing.T) {
	for _, file := range []string{"wattline.jsonl", "weka.jsonl", "mooncake.jsonl", "burstgpt-sessions.csv"} {
		want, err := Read(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		var text bytes.Buffer
		if err := Write(&text, Manifest{MadeBy: "a test"}, want); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "trace")
		write(t, path, text.Bytes())
		got, err := Read(path)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if m := got.Manifest; m.MadeBy != "a test" || m.Records != len(want.Records) || m.Sessions != want.Sessions() || m.SpanUs != want.Span().Microseconds() {
			t.Errorf("%s: manifest %+v", file, m)
		}
		for i := range want.Records {
			r := want.Records[i]
			r.Line = i + 2
			r.Offset = r.Offset.Truncate(time.Microsecond)
			if !reflect.DeepEqual(got.Records[i], r) {
				t.Errorf("%s: record %d is %+v, was %+v", file, i+1, got.Records[i], r)
			}
		}
	}
}

// TestPublicTraces reads the public traces whole. WATTLINE_TRACES is the folder that holds them.
func TestPublicTraces(t *testing.T) {
	dir := os.Getenv("WATTLINE_TRACES")
	if dir == "" {
		t.Skip("WATTLINE_TRACES=FOLDER reads the public traces in it")
	}
	for file, want := range map[string]string{
		"azure2023-code.csv.gz":          "8819",
		"azure2023-conv.csv.gz":          "19366",
		"mooncake-conversation.jsonl.gz": "12031",
		"mooncake-synthetic.jsonl.gz":    "3993",
	} {
		began := time.Now()
		got, err := Read(filepath.Join(dir, file))
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		in, out := 0, 0
		for _, r := range got.Records {
			in, out = in+r.Input, out+r.Output
		}
		t.Logf("%s: %s, %d records, %d sessions, %v, %s, %d tokens in, %d out, left out %v, read in %v", file, got.Format, len(got.Records), got.Sessions(), got.Span(), got.Clock, in, out, got.Impossible, time.Since(began).Round(time.Millisecond))
		left := 0
		for _, p := range got.Impossible {
			left += p.Count
		}
		if fmt.Sprint(len(got.Records)+left) != want {
			t.Errorf("%s: %d records and %d left out, want %s", file, len(got.Records), left, want)
		}
	}
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func zipped(t *testing.T, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
