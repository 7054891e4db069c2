package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	pagecdp "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"wattline/proxy/llamatest"
)

// talker is an agent that goes on with one conversation.
type talker struct {
	agent, session, system string
	tokens                 int
	pause                  time.Duration
	forgets                bool // its prompt begins with the time of day, so that nothing of it can be reused
}

// talk lets an agent take turns until ctx ends.
func (a talker) talk(ctx context.Context, url string) {
	var turns []map[string]any
	for n := 0; ctx.Err() == nil; n++ {
		system := a.system
		if a.forgets {
			system = fmt.Sprintf("The time is %s.\n%s", time.Now().Format(time.TimeOnly), a.system)
		}
		turns = append(turns, map[string]any{"role": "user", "content": fmt.Sprintf("question %d %s", n, strings.Repeat("fo gu ba ", 40))})
		text := a.turn(ctx, url, append([]map[string]any{{"role": "system", "content": system}}, turns...))
		if turns = append(turns, map[string]any{"role": "assistant", "content": text}); len(turns) > 20 {
			turns = nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(a.pause):
		}
	}
}

// turn sends one streamed request and returns the reply's text.
func (a talker) turn(ctx context.Context, url string, messages []map[string]any) string {
	body, err := json.Marshal(map[string]any{"model": "tiny", "messages": messages, "stream": true, "max_tokens": a.tokens, "ignore_eos": true, "stream_options": map[string]any{"include_usage": true}})
	if err != nil {
		return ""
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		return ""
	}
	req.Header = http.Header{"Content-Type": {"application/json"}, "User-Agent": {a.agent + "/1.0"}, "X-Wattline-Session": {a.session}}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return ""
	}
	defer func() { _ = resp.Body.Close() }()
	var text strings.Builder
	for s := bufio.NewScanner(resp.Body); s.Scan(); {
		var e struct {
			Choices []struct{ Delta struct{ Content string } }
		}
		if json.Unmarshal([]byte(strings.TrimPrefix(s.Text(), "data: ")), &e) == nil && len(e.Choices) > 0 {
			text.WriteString(e.Choices[0].Delta.Content)
		}
	}
	return text.String()
}

// TestConsoleLookSoak shows every page, and the HTML report, with the traffic of five agents and two runs of replay, dark and
// light, 1,600 and 390 pixels wide: axe finds nothing, nothing is wider than the screen, and each is kept as a picture.
func TestConsoleLookSoak(t *testing.T) {
	if os.Getenv("WATTLINE_SOAK") == "" {
		t.Skip("minutes of a real browser: WATTLINE_SOAK=1")
	}
	up, runs := llamatest.Start(t, "-c", "65536", "-np", "4"), t.TempDir()
	w := serve(t, up.URL(), "--gpu", "sim", "--price-per-kwh", "0.3", "--currency", "EUR", "--identify", "plain", "--runs", runs, "--keep-gaps", "1h")
	w.awaitQuiet(t, 4)
	long := strings.Repeat("ba ce di fo gu ", 400)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var all sync.WaitGroup
	for i, a := range []talker{
		{agent: "claude-code", session: "refactor", system: "one " + long, tokens: 60, pause: 1200 * time.Millisecond},
		{agent: "codex", session: "fix-tests", system: "two " + long, tokens: 40, pause: 2500 * time.Millisecond},
		{agent: "opencode", session: "docs", system: "three " + long, tokens: 24, pause: 4 * time.Second, forgets: true},
		{agent: "aider", session: "review", system: "four " + long[:800], tokens: 120, pause: 6 * time.Second},
		{agent: "curl", session: "", system: "five", tokens: 16, pause: 9 * time.Second},
	} {
		all.Go(func() {
			select {
			case <-ctx.Done():
			case <-time.After(time.Duration(i) * 700 * time.Millisecond):
			}
			a.talk(ctx, w.url)
		})
	}
	browser, axe := startChromium(t), axeSource(t)
	live := browser.open(t, w.admin, "/live", 1600, 1000)
	for turns := range 4 {
		live.until(fmt.Sprint(turns+1, " turns of each"), fmt.Sprintf(`import("/web/lib/live.js").then((m) => ["refactor", "fix-tests", "docs", "review"].every((s) => [...m.live.rows.values()].filter((r) => r.session === s && r.energy_quality !== "pending").length > %d))`, turns))
	}
	for _, theme := range []string{"dark", "light"} {
		live.look(axe, "live-running", theme, 1600)
	}
	var id string
	live.eval(`import("/web/lib/live.js").then((m) => [...m.live.rows.values()].findLast((r) => r.agent.startsWith("opencode") && r.cache_verdict && r.energy_quality !== "pending")?.id || "")`, &id)
	_, verdicts := w.get(t, "/api/requests?session=docs&sort=started_at&columns=id,cache_verdict,cache_cause,cache_part,details")
	t.Log(verdicts)
	if id == "" {
		t.Fatal("no row of opencode has a cache verdict")
	}
	stop()
	all.Wait()
	live.clean()
	for _, name := range []string{"before", "after"} {
		out, err := command(t, "replay", "--endpoint", w.url, "--admin", w.admin, "--requests", "2", "--budget", "20s", "--out", filepath.Join(runs, name)).CombinedOutput()
		t.Logf("replay: %v\n%.300s", err, out) // a busy machine's run may be INVALID
	}
	for _, width := range []int64{1600, 390} {
		page := browser.open(t, w.admin, "/health", width, map[int64]int64{1600: 1000, 390: 844}[width])
		for _, theme := range []string{"dark", "light"} {
			for _, v := range []struct{ path, shows string }{
				{"/live", `document.querySelectorAll("main tr[data-id]").length > 3`},
				{"/requests", `document.querySelectorAll("main tbody tr[data-row]").length > 3`},
				{"/requests/" + id, `document.querySelector('section[aria-label="Prompt cache"]')`},
				{"/sessions", `document.querySelectorAll("main tbody tr[data-row]").length > 2`},
				{"/sessions/refactor", `document.querySelectorAll("main svg rect").length > 2`},
				{"/sessions/docs", `[...document.querySelectorAll("svg title")].some((t) => /^computed again: [^0]/.test(t.textContent))`},
				{"/energy?since=1h", `document.querySelector('[data-difference="0"]')`},
				{"/queries", `document.querySelectorAll("main li a").length > 10`},
				{"/queries/by-client", `document.querySelector("main table tbody tr")`},
				{"/runs?run=before&run=after", `document.querySelectorAll("main canvas").length > 3`},
				{"/runs/before", `document.querySelectorAll("main canvas").length > 3`},
				{"/health", `document.querySelector("main table")`},
			} {
				page.visit(v.path)
				page.until(v.path, v.shows)
				page.look(axe, strings.Trim(strings.Map(wordLetters, strings.ReplaceAll(v.path, id, "id")), "-"), theme, width)
			}
		}
		page.clean()
	}
	out, err := command(t, "report", filepath.Join(runs, "before"), filepath.Join(runs, "after"), "--html", filepath.Join(runs, "report.html")).CombinedOutput()
	if err != nil {
		t.Fatalf("report: %v\n%s", err, out)
	}
	for _, width := range []int64{1600, 390} {
		page := browser.open(t, "file://"+runs, "/report.html", width, 1000)
		page.until("charts", `document.querySelector("canvas")`)
		page.look(axe, "report", "as it is", width)
		page.clean()
	}
}

// look settles a page in a theme, has axe look at it, holds it to its width and keeps a picture of all of it.
func (p *tab) look(axe, name, theme string, width int64) {
	p.t.Helper()
	if theme == "dark" || theme == "light" {
		p.eval(fmt.Sprintf(`import("/web/lib/colour.js").then((m) => m.applyTheme(%q))`, theme), nil)
	}
	p.settle()
	name = fmt.Sprintf("%s-%s-%d", name, strings.ReplaceAll(theme, " ", "-"), width)
	var wide int64
	if p.eval(`document.documentElement.scrollWidth`, &wide); wide > width {
		p.t.Errorf("%s is %d pixels wide", name, wide)
	}
	p.axe(axe, name)
	p.do(chromedp.ActionFunc(func(ctx context.Context) error { // small enough for a README
		webp, err := pagecdp.CaptureScreenshot().WithFormat(pagecdp.CaptureScreenshotFormatWebp).WithQuality(75).Do(ctx)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(p.c.dir, name+".webp"), webp, 0o600)
	}))
	var png []byte
	if strings.HasPrefix(name, "live") && width > 390 {
		p.do(chromedp.CaptureScreenshot(&png))
	} else {
		p.do(chromedp.FullScreenshot(&png, 100))
	}
	if err := os.WriteFile(filepath.Join(p.c.dir, name+".png"), png, 0o600); err != nil {
		p.t.Error(err)
	}
}
