package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wattline/deploy/llama"
	"wattline/meter"
	"wattline/meter/cache"
	"wattline/proxy/llamatest"
	"wattline/sink"
)

// lostRow is a turn of a session that lost its cache.
func lostRow(id string, at time.Time, verdict, cause, part string, lost int64) *meter.Record {
	r := measured(id, at)
	r.Session, r.CacheVerdict, r.CacheCause, r.CachePart = "one", verdict, cause, part
	r.PromptTokens, r.CachedTokens = meter.Some(4000), meter.Some(4000-500-lost)
	r.CacheExpectedTokens, r.CacheLostTokens = meter.Some(3500), meter.Some(lost)
	r.CacheLostUs, r.CacheLostUj, r.CacheLostSigmaUj = meter.Some(lost*1000), meter.Some(lost*30_000), meter.Some(lost*1000)
	r.Details = &meter.Details{CacheWhy: "system differs at byte 12", CachePredecessor: "0199-aaaa", CacheMatchedBytes: meter.Some(12), CacheExpectedSigma: meter.Some(25)}
	return r
}

// TestCacheCommand: the culprits with advice, a session's ribbon, one request's verdict.
func TestCacheCommand(t *testing.T) {
	at := time.Now().Add(-time.Hour)
	rows := []*meter.Record{
		lostRow("0199-aaaa", at, cache.Cold, "", "", 0), lostRow("0199-bbbb", at.Add(time.Minute), cache.Client, "volatile_line", "system", 3000),
		lostRow("0199-cccc", at.Add(2*time.Minute), cache.Server, cache.SlotTaken, "", 1000), lostRow("0199-dddd", at.Add(3*time.Minute), cache.Hit, "", "", 0),
		lostRow("0199-eeee", at.AddDate(0, 0, -9), cache.Client, "tools_reordered", "tool 1", 9),
	}
	db := storeOf(t, sink.Rows{Requests: rows})
	out, _ := output(t, 0, "cache", "--store", db)
	for _, want := range []string{"4 prompts: 1 hit, 1 cold, 1 lost by the client, 1 by the server, 0 unknown", "volatile line  client", "3000", "90 ± 3 J", "slot taken     server", "slot taken: Give the server a slot for each session (--parallel)"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, "reordered") || strings.Index(out, "volatile line") > strings.Index(out, "slot taken") {
		t.Errorf("%s", out)
	}
	if out, _ := output(t, 0, "cache", "--store", db, "--since", "30d"); !strings.Contains(out, "tools reordered") {
		t.Errorf("30 days:\n%s", out)
	}
	out, _ = output(t, 0, "cache", "0199-bbbb", "--store", db)
	for _, want := range []string{"verdict     client, volatile line, in system", "why         system differs at byte 12", "4000 in the prompt, 500 reused, 3500 ± 25 expected, 3000 lost", "3000 ms of prefill, 90 ± 3 J", "what to do  Move the line"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	out, _ = output(t, 0, "cache", "--session", "one", "--store", db)
	if !strings.Contains(out, "██████!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!░░░░░░") || strings.Count(out, "\n") < 7 {
		t.Errorf("no ribbon in\n%s", out)
	}
	for _, args := range [][]string{{"cache", "nobody", "--store", db}, {"cache", "--session", "nobody", "--store", db}} {
		if _, errs := output(t, exitFailed, args...); !strings.Contains(errs, "nobody") {
			t.Errorf("%v: %s", args, errs)
		}
	}
	output(t, exitUsage, "cache", "x", "--session", "y", "--store", db)
	output(t, exitUsage, "cache", "--since", "long ago", "--store", db)
	if out, _ := output(t, 0, "cache", "--store", storeOf(t, sink.Rows{Requests: []*meter.Record{measured("0199-ffff", at)}})); !strings.Contains(out, "no prompt was judged") {
		t.Errorf("a store without verdicts: %s", out)
	}
}

// TestAdviceNamesRealFlags: each flag of llama-server that the advice names is one that a running server's --help lists.
func TestAdviceNamesRealFlags(t *testing.T) {
	bin, err := llama.Find(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	help, err := exec.CommandContext(t.Context(), bin.Path, "--help").CombinedOutput() //nolint:gosec // the program that Find found
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, cause := range cache.Causes() {
		for _, word := range strings.FieldsFunc(cache.Advice(cause), func(r rune) bool { return strings.ContainsRune(" ,();:", r) }) {
			if !strings.HasPrefix(word, "--") || strings.Contains(cache.Advice(cause), "wattline serve with "+word) {
				continue
			}
			named++
			if !bytes.Contains(help, []byte(strings.TrimRight(word, "."))) {
				t.Errorf("%s: the server does not know %s", cause, word)
			}
		}
	}
	if named < 8 {
		t.Errorf("only %d flags are named", named)
	}
}

// TestNoPromptOnDisk: nothing of a prompt or a reply is in the store, its log, a recording, the log, or what the console answers,
// and the key is needed for every hash; with --autopsy-text the changed line is in the log, and there only.
func TestNoPromptOnDisk(t *testing.T) {
	t.Parallel()
	for _, text := range []bool{false, true} {
		up := llamatest.Start(t)
		dir := filepath.Join(t.TempDir(), "rec")
		args := []string{"--gpu", "sim", "--record", dir, "--log-level", "debug"}
		if text {
			args = append(args, "--autopsy-text")
		}
		w := serve(t, up.URL(), args...)
		var last reply
		for _, secret := range []string{"xylophone-one 11", "xylophone-one 12"} {
			last = w.post(t.Context(), "/v1/chat/completions", map[string]any{"max_tokens": 4, "messages": []any{
				map[string]any{"role": "system", "content": secret + "\n" + strings.Repeat("quagmire ba ce di fo gu ", 40)}, map[string]any{"role": "user", "content": "zanzibar"},
			}})
			if last.err != nil || last.status != http.StatusOK {
				t.Fatalf("%d %v: %s", last.status, last.err, last.body)
			}
			w.row(t, last.id)
		}
		rec := w.row(t, last.id)
		if rec.CacheVerdict != cache.Client || rec.CacheCause != "volatile_line" || rec.CacheLostTokens.V < 100 {
			t.Errorf("%s %s %v %+v", rec.CacheVerdict, rec.CacheCause, rec.CacheLostTokens, rec.Details)
		}
		seen := map[string][]byte{}
		for _, path := range []string{"/api/requests", "/api/requests/" + last.id, "/api/requests/" + last.id + "/context", "/api/inflight", "/api/status", "/metrics"} {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			status, body := getAdmin(ctx, t, w.admin+path)
			cancel()
			if status != http.StatusOK {
				t.Errorf("%s: %d", path, status)
			}
			seen[path] = body
		}
		_ = w.cmd.Process.Signal(os.Interrupt)
		<-w.waited
		for _, root := range []string{filepath.Dir(w.store), dir} {
			_ = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
				if err == nil && !d.IsDir() {
					seen[path], _ = os.ReadFile(path)
				}
				return nil
			})
		}
		w.mu.Lock()
		log := bytes.Clone(w.stderr.Bytes())
		w.mu.Unlock()
		if !text {
			seen["the log"] = log
		} else if !bytes.Contains(log, []byte("xylophone-one 12")) || bytes.Contains(log, []byte("zanzibar")) {
			t.Errorf("the changed line, and no other, should be in the log:\n%s", log)
		}
		if len(seen) < 10 {
			t.Errorf("only %d places were looked at", len(seen))
		}
		for where, content := range seen {
			for _, word := range []string{"xylophone", "quagmire", "zanzibar"} {
				if bytes.Contains(content, []byte(word)) {
					t.Errorf("%q is in %s", word, where)
				}
			}
		}
	}
}

func getAdmin(ctx context.Context, t *testing.T, url string) (status int, body []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read from
	if body, err = io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, body
}
