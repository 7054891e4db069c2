package main

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/fetch"

	"wattline/meter"
	"wattline/proxy/stub"
	"wattline/sink"
	"wattline/sink/store"
)

// refusals: a wrong password, a store that is damaged while the page is open, one that is none: a sentence each.
func (c *consoleRun) refusals() {
	c.wrongPassword()
	dir := c.t.TempDir()
	path := filepath.Join(dir, "wattline.db")
	writeRows(c.t, path, 3000, time.Hour)
	page := c.browser.open(c.t, start(c.t, "console", "--listen", "127.0.0.1:0", "--store", path).admin, "/runs", 1600, 1000)
	page.until("the page", `document.querySelector("main h1")?.textContent === "Runs"`)
	other := c.browser.open(c.t, start(c.t, "console", "--listen", "127.0.0.1:0", "--store", path).admin, "/runs", 1600, 1000) // it reads the rows into its memory
	other.until("the page", `document.querySelector("main h1")?.textContent === "Runs"`)
	other.copies()
	other.tolerating(true)
	other.scrolls()
	page.tolerating(true)
	damage(c.t, path)
	page.visit("/requests")
	page.until("the store is damaged", `document.querySelector("main .problem")?.textContent.includes("is damaged or not a wattline store: move it")`)
	page.clean()
	for name, want := range map[string]string{path: "is damaged", filepath.Join(dir, "none.db"): "", filepath.Join(dir, "text.db"): "not a"} {
		if strings.HasSuffix(name, "text.db") {
			if err := os.WriteFile(name, []byte(strings.Repeat("no database\n", 1000)), 0o600); err != nil {
				c.t.Fatal(err)
			}
		}
		out, err := command(c.t, "console", "--listen", "127.0.0.1:0", "--store", name).CombinedOutput()
		if err == nil || strings.Count(strings.TrimSpace(string(out)), "\n") > 1 || !strings.Contains(string(out), want) {
			c.t.Errorf("console --store %s: %v\n%s", filepath.Base(name), err, out)
		}
	}
}

// copies: commands that pages offer for copying take no word for a flag, and none that reads the store alone is offered over
// ClickHouse. It leaves the page over ClickHouse.
func (p *tab) copies() {
	p.t.Helper()
	var got []string
	p.eval(`Promise.all([import("/web/lib/copy.js"), import("/web/lib/filters.js")]).then(([c, f]) => {
	  const chosen = (text, engine) => f.command(new URLSearchParams(text), engine).replace(/'SELECT .* WHERE /, "'... ");
	  const all = [chosen("all=1&session=-x y&agent=curl", "sqlite"), "wattline session " + c.words("-x"), "wattline compare " + c.words("a", "-b"), chosen("all=1&session=-x", "clickhouse"),
	    chosen("agent=curl", "sqlite").slice(0, 14), chosen("since=24h", "sqlite")];
	  c.rowsAre({ engine: "sqlite", rows: "/a b.db" });
	  all.push(c.complete("wattline session " + c.words("-x")));
	  c.rowsAre({ engine: "clickhouse", rows: "http://u@h/d" });
	  return [...all, ...["wattline query 'SELECT 1'", "wattline usage", "wattline report a", "wattline session x", "wattline requests --follow", undefined].map((w) => c.complete(w) || "none")];
	})`, &got)
	want := []string{
		"wattline requests --all --session='-x y' --agent=curl", "wattline session -- '-x'", "wattline compare -- a '-b'",
		"wattline query '... (session = '\\''-x'\\'') ORDER BY started_at DESC LIMIT 100'", "wattline query", "wattline requests --since=24h",
		"wattline session --store='/a b.db' -- '-x'",
		"wattline query --clickhouse=http://u@h/d 'SELECT 1'", "wattline usage --clickhouse=http://u@h/d", "wattline report a", "none", "none", "none",
	}
	if !slices.Equal(got, want) {
		p.t.Errorf("commands to copy:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// scrolls: the table keeps its rows when a page of them cannot be had and asks for it again, and has its first rows still
// after a long way down.
func (p *tab) scrolls() {
	p.t.Helper()
	p.visit("/requests?all=1")
	const box, first = `document.querySelector("main .tall")`, `document.querySelector('main tr[data-row="0"] a')`
	p.until("the first rows", first)
	p.eval(`(() => { const real = fetch; let failed = 0; window.fetch = (u, ...o) => (String(u).includes("cursor=") && !failed++ ? Promise.reject(new TypeError("gone")) : real(u, ...o)); return 1; })()`, nil)
	p.until("a page that fails leaves the rows", `(`+box+`.scrollTop = 200 * 31, document.querySelector("main .problem") && document.querySelector("main tr[data-row] a"))`)
	p.until("the last row", `(`+box+`.scrollTop = `+box+`.scrollHeight, document.querySelector("main .under").textContent.includes("in all"))`)
	p.until("the sentence is gone", `!document.querySelector("main .problem")`)
	p.until("the first rows again", `(`+box+`.scrollTop = 0, `+first+`)`)
}

// wrongPassword: the page is not there without the password, says so, and works with it.
func (c *consoleRun) wrongPassword() {
	file := filepath.Join(c.t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("correct horse\n"), 0o600); err != nil {
		c.t.Fatal(err)
	}
	up, _ := stubUpstream(c.t, stub.Config{})
	w := serve(c.t, up, "--gpu", "none", "--admin-password-file", file)
	page := c.browser.open(c.t, w.admin, "/healthz", 1600, 1000)
	page.tolerating(true) // the browser logs the status 401
	page.types("wrong")
	page.visit("/live")
	page.until("a sentence", `document.body.textContent.trim() === "a password is needed (--admin-password-file), with any user name" && document.contentType === "text/plain"`)
	page.do(fetch.Disable())
	page.tolerating(false)
	page.clean()
	named := strings.Replace(w.admin, "http://", "http://x:correct%20horse@", 1)
	page.visitURL(named + "/live")
	page.until("live with the password", `document.querySelector("nav .dot")?.className === "dot" && document.querySelector(".figures")`)
	page.clean()
}

// damage overwrites all of a store but its beginning.
func damage(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	r, noise := rand.New(rand.NewPCG(1, 1)), make([]byte, 4096)
	for at := int64(4096); at < st.Size(); at += 4096 {
		for i := range noise {
			noise[i] = byte(r.Uint32())
		}
		if _, err := f.WriteAt(noise, at); err != nil {
			t.Fatal(err)
		}
	}
}

// writeRows makes a store of n requests of twelve agents over the last so long, with their joules, and the power of that time.
func writeRows(t *testing.T, path string, n int, span time.Duration) (sample *meter.Record) {
	t.Helper()
	ctx := context.Background()
	s, err := store.Open(ctx, store.Config{Path: path, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	r, some, began := rand.New(rand.NewPCG(7, uint64(n))), meter.Some, time.Now().Add(-span)
	step := span / time.Duration(n)
	rows := &sink.Rows{}
	write := func() {
		if err := s.Write(ctx, rows); err != nil {
			t.Fatal(err)
		}
		rows = &sink.Rows{}
	}
	for i := range n {
		at := began.Add(time.Duration(i) * step)
		agent := r.IntN(12)
		queue, prefill, decode, active := r.Int64N(40_000), 20_000+r.Int64N(900_000), 100_000+r.Int64N(4_000_000), 5_000_000+r.Int64N(200_000_000)
		rec := &meter.Record{
			ID: fmt.Sprintf("%08x-%04x-7%03x-8000-%012x", at.UnixMilli()>>16, at.UnixMilli()&0xffff, i&0xfff, i), StartedAt: at, Instance: "host", Route: "default", Method: "POST", Path: "/v1/chat/completions",
			Dialect: meter.DialectChat, Agent: fmt.Sprintf("agent-%d", agent), Session: fmt.Sprintf("session-%d-%d", agent, i/2400), Model: []string{"small.gguf", "large.gguf"}[r.IntN(2)], User: fmt.Sprintf("user-%d", agent%5),
			Outcome: meter.OK, Status: some(200), Stream: some(1), FinishReason: "stop", EnergyQuality: meter.EnergyShared, EnergySource: "nvml/counter", GPUDevices: []string{"GPU-0"},
			Labels: map[string]string{"task": fmt.Sprint(i % 9)}, PromptTokens: some(200 + r.Int64N(60_000)), CachedTokens: some(r.Int64N(200)), OutputTokens: some(1 + r.Int64N(900)),
			QueueUs: some(queue), PrefillUs: some(prefill), DecodeUs: some(decode), UpstreamTTFTUs: some(queue + prefill), TTFTUs: some(queue + prefill + 90), DurationUs: some(queue + prefill + decode + 300),
			GPUActiveUj: some(active), GPUPrefillUj: some(active / 3), GPUDecodeUj: some(active - active/3), GPUIdleUj: some(active / 9), GPUUj: some(active + active/9), GPUUjByDevice: []int64{active + active/9}, GPUSigmaUj: some(active / 50),
			PricePerKWhMicro: some(300_000),
		}
		if r.IntN(40) == 0 {
			rec.Outcome, rec.Status, rec.Error = meter.UpstreamError, some(502), "connection refused"
		}
		sample = rec
		rows.Requests = append(rows.Requests, rec)
		if len(rows.Requests) == 2000 {
			write()
		}
	}
	long := some(int64(1_000_000)) // seconds of the last day, minutes before
	for at := began.Truncate(time.Second); at.Before(time.Now()); at = at.Add(time.Duration(long.V) * time.Microsecond) {
		if long = some(1_000_000); time.Since(at) > 24*time.Hour {
			long = some(60_000_000)
		}
		uj := long.V * (200 + r.Int64N(150))
		rows.Power = append(rows.Power, &sink.Power{At: at, Instance: "host", Device: "GPU-0", Source: "nvml/counter", SpanUs: long, EnergyUj: some(uj), MeanMw: some(uj / (long.V / 1000)), MaxMw: some(uj/(long.V/1000) + 20_000), TempC: some(50 + r.Int64N(20)), LimitMw: some(450_000)})
		rows.Ledger = append(rows.Ledger, &sink.Ledger{At: at, Instance: "host", Device: "GPU-0", SpanUs: long, CounterUj: some(uj), RequestsActiveUj: some(uj / 2), RequestsIdleUj: some(uj / 4), PoolsUj: some(0), IdleUj: some(uj - uj/2 - uj/4), ResidualUj: some(0)})
		if len(rows.Power) == 2000 {
			write()
		}
	}
	write()
	if _, err := s.Pack(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return sample
}
