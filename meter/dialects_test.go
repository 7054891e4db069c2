package meter_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"wattline/deploy/llama"
	"wattline/meter"
)

var record = flag.String("record", "", "write the kinds of request whose name matches this expression into testdata: captured anew by TestDialectsLive, evaluated anew by TestTranscripts; . for all")

// recording says whether a transcript is to be written.
func recording(t *testing.T, name string) bool {
	t.Helper()
	ok, err := regexp.MatchString(*record, name)
	if err != nil {
		t.Fatalf("-record: %v", err)
	}
	return ok && *record != ""
}

// TestDialectsLive sends every kind of request to a real llama-server, compares what the meter makes of
// the reply with the numbers that stand in it, and prints which columns each kind gives. A new
// llama-server that gives other columns than testdata/dialects.txt says fails the test with the
// difference. -record replaces transcripts by what it captured.
func TestDialectsLive(t *testing.T) {
	live := &liveServers{t: t}
	var rows []coverage
	all := suite()
	for _, f := range slices.SortedFunc(maps.Keys(all), func(a, b *flavour) int { return strings.Compare(a.name, b.name) }) {
		addr := live.start(f)
		for _, k := range all[f] {
			tr := k.capture(t, f, addr)
			r := tr.reply(t)
			var m meter.Meter
			o := tr.playBody(&m, nil, &r)
			checkCounts(t, tr, &r, o)
			rows = append(rows, coverageOf(tr, o))
			if recording(t, tr.Name) {
				tr.Want = o.json(t)
				tr.save(t)
			}
		}
		live.stop()
	}
	got := table(rows)
	t.Logf("llama-server %s\n%s", live.version, got)
	compareTable(t, llamaTable, got)
}

// TestTranscripts replays the captured exchanges: the same bytes at the same times must give the same
// record. -record writes what came
// out, for review with git diff.
func TestTranscripts(t *testing.T) {
	var m meter.Meter // one for all: nothing of one exchange may show in the next
	var rows, others []coverage
	for _, tr := range loadTranscripts(t) {
		r := tr.reply(t)
		o := tr.playBody(&m, nil, &r)
		checkCounts(t, tr, &r, o)
		if strings.HasPrefix(tr.Name, "llama-server/") {
			rows = append(rows, coverageOf(tr, o))
		} else {
			others = append(others, coverageOf(tr, o))
		}
		got := o.json(t)
		if recording(t, tr.Name) {
			tr.Want = got
			tr.save(t)
			continue
		}
		if len(tr.Want) == 0 {
			t.Errorf("%s has no outcome to compare with: run with -record %s", tr.Name, tr.Name)
			continue
		}
		if want := compact(tr.Want); !bytes.Equal(got, want) {
			t.Errorf("%s: the record changed:\n%s", tr.Name, lineDiff(string(want), string(got)))
		}
	}
	if len(rows) < 25 {
		t.Errorf("%d kinds captured from llama-server, want at least 25", len(rows))
	}
	compareTable(t, llamaTable, table(rows))
	compareTable(t, othersTable, table(others))
}

// capture sends the request and what must come before or beside it.
func (k *kind) capture(t *testing.T, f *flavour, addr string) *transcript {
	t.Helper()
	if k.before != nil {
		if err := k.before.transcript(f).send(addr, 0); err != nil {
			t.Fatal(err)
		}
	}
	for try := 1; ; try++ {
		tr := k.transcript(f)
		done := make(chan error, 1)
		if k.beside != "" {
			other := k.transcript(f)
			other.Body = k.beside
			go func() { done <- other.send(addr, 0) }()
		} else {
			done <- nil
		}
		if err := tr.send(addr, k.cut); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		// What two at once are to run into, they miss where one is over before the other begins.
		if k.beside == "" || bytes.Contains(tr.Raw, []byte(`"error"`)) || try == 10 {
			return tr
		}
	}
}

// liveServers starts one llama-server after the other.
type liveServers struct {
	t       *testing.T
	bin     llama.Binary
	version string
	srv     *llama.Server
}

func (l *liveServers) start(f *flavour) (addr string) {
	l.t.Helper()
	ctx := l.t.Context()
	model, err := llama.TinyModel(ctx)
	if err != nil {
		l.t.Fatal(err)
	}
	if l.bin.Path == "" {
		if l.bin, err = llama.Find(ctx, nil); err != nil {
			l.t.Fatalf("this test needs a real llama-server: %v", err)
		}
		l.version = l.bin.Version
	}
	args := append([]string{"-m", model, "--no-webui", "--threads", "1", "--alias", "tiny"}, f.args...)
	for i := range args {
		if args[i] == "MODEL" {
			args[i] = model
		}
	}
	if f.template != "" {
		args = append(args, "--chat-template-file", writeFile(l.t, "template.jinja", f.template))
	}
	if f.project != nil {
		args = append(args, "--mmproj", writeFile(l.t, "mmproj.gguf", f.project()))
	}
	if f.router {
		args = append([]string{"--no-webui", "--models-dir", twoModels(l.t, model)}, f.args...)
	}
	if l.srv, err = llama.Start(context.WithoutCancel(ctx), l.bin, args...); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(l.stop)
	return strings.TrimPrefix(l.srv.URL(), "http://")
}

func (l *liveServers) stop() {
	if l.srv == nil {
		return
	}
	if err := l.srv.Stop(); err != nil {
		l.t.Error(err)
	}
	l.srv = nil
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// twoModels is a folder that a router finds two models in.
func twoModels(t *testing.T, model string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"first.gguf", "second.gguf"} {
		if err := os.Symlink(model, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// The tables of what llama-server's replies give, and other servers'.
const (
	llamaTable  = "testdata/dialects.txt"
	othersTable = "testdata/other-servers.txt"
)

// compareTable compares with a file.
func compareTable(t *testing.T, file, got string) {
	t.Helper()
	if *record != "" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the columns that the dialects give differ from %s (- there, + now):\n%s", file, lineDiff(string(want), got))
	}
}

// lineDiff shows the lines that only one of two texts has, in order.
func lineDiff(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	var b strings.Builder
	for _, l := range w {
		if !slices.Contains(g, l) {
			fmt.Fprintf(&b, "- %s\n", l)
		}
	}
	for _, l := range g {
		if !slices.Contains(w, l) {
			fmt.Fprintf(&b, "+ %s\n", l)
		}
	}
	if b.Len() == 0 {
		return "(the same lines in another order or number)"
	}
	return b.String()
}
