package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"wattline/proxy/llamatest"
	"wattline/proxy/stub"
)

// hostile is a name that would run if it ever became markup.
const hostile = `"><img src=x onerror="window.ran=1"><script>window.ran=1</script>`

// longPrompt takes the small model long enough for its prefill to be seen.
var longPrompt = strings.Repeat("ba ce di fo gu ", 2000) //nolint:gochecknoglobals // a constant

// ask sends a streamed chat request as an agent of this name, which ends with its context, and returns its id at once; done
// is closed at the end of the reply.
func (w *wattlineProcess) ask(ctx context.Context, t *testing.T, agent, prompt string, tokens int) (id string, done chan struct{}) {
	t.Helper()
	body, err := json.Marshal(map[string]any{"messages": []any{map[string]any{"role": "user", "content": prompt}}, "stream": true, "max_tokens": tokens,
		"ignore_eos": true, "model": agent + "-model", "cache_prompt": false})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url+"/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{"Content-Type": "application/json", "X-Wattline-Echo": "1", "User-Agent": agent, "X-Wattline-Session": agent, "X-Wattline-Labels": "task=" + strings.NewReplacer(",", "", "=", "").Replace(agent)} {
		req.Header.Set(k, v)
	}
	done = make(chan struct{})
	got := make(chan string, 1)
	go func() { // ends with the reply or with ctx
		defer close(done)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			got <- ""
			return
		}
		defer func() { _ = resp.Body.Close() }()
		got <- resp.Header.Get("X-Wattline-Id")
		_, _ = io.Copy(io.Discard, resp.Body)
	}()
	return <-got, done
}

// watchRows notes in the page when each row of Live is first there and which states it goes through; rows are the same
// elements of the document from first to last.
const watchRows = `(() => {
  window.noted = {};
  const look = () => { for (const tr of document.querySelectorAll("main tr[data-id]")) {
    const n = noted[tr.dataset.id] ||= { at: Date.now(), phases: [], tr, same: true };
    if (n.tr !== tr) n.same = false;
    if (n.phases.at(-1) !== tr.dataset.phase) n.phases.push(tr.dataset.phase);
  } };
  new MutationObserver(look).observe(document.body, { subtree: true, childList: true, attributes: true });
  look();
})()`

type note struct {
	At     int64
	Phases []string
	Same   bool
	Energy string
	State  string
}

func (p *tab) noted(id string) note {
	p.t.Helper()
	var n note
	p.eval(fmt.Sprintf(`(() => { const n = noted[%s]; return { At: n.at, Phases: n.phases, Same: n.same && n.tr.isConnected, State: n.tr.lastElementChild.textContent,
	  Energy: n.tr.querySelector(".num, .estimate")?.textContent || "" }; })()`, js(id)), &n)
	return n
}

// stepsOf sums, in the page's own data, the power steps between two moments.
const stepsOf = `import("/web/lib/live.js").then((m) => { const { steps, step } = m.power(%d, %d, ""); let worst = 0, parts = 0, mw = 0, settled = 0;
  for (const s of steps) { const sum = s.idle + s.residual + s.parts.reduce((n, p) => n + p[1], 0); worst = Math.max(worst, Math.abs(sum - s.mw) / Math.max(1, s.mw)); mw += s.mw * step; parts += sum * step; settled += s.settled ? 1 : 0; }
  return { Steps: steps.length, Settled: settled, Worst: worst, Parts: parts, Uj: mw, Step: step }; })`

// consoleRun is a browser that looks at serve with a simulated GPU.
type consoleRun struct {
	t       *testing.T
	browser *chromium
	w       *wattlineProcess
	args    []string // of serve
	up      string
	live    *tab
	prompt  string
	tokens  int
	axe     string // "": only the long test runs it
	began   time.Time
	id      string // of the first request
}

func newConsoleRun(t *testing.T, upstream, prompt string, tokens int) *consoleRun {
	c := &consoleRun{t: t, browser: startChromium(t), up: upstream, prompt: prompt, tokens: tokens, args: []string{"--gpu", "sim", "--price-per-kwh", "0.3", "--currency", "EUR", "--identify", "plain"}}
	c.w = serve(t, upstream, c.args...)
	c.w.awaitQuiet(t, 4)
	c.live = c.browser.open(t, c.w.admin, "/live?w=300", 1600, 1000)
	c.live.until("live is connected", `import("/web/lib/live.js").then((m) => m.live.ready && m.live.state === "live")`)
	c.live.eval(watchRows, nil)
	c.began = time.Now()
	return c
}

// TestConsole: a real Chromium looks at the real serve. The upstream is a stub, whose phases have known lengths.
func TestConsole(t *testing.T) {
	up, _ := stubUpstream(t, stub.Config{HeaderDelay: 300 * time.Millisecond, FirstToken: 900 * time.Millisecond, TokenGap: 20 * time.Millisecond})
	c := newConsoleRun(t, up, "ba ce di", 50)
	c.inLive()
	c.hostileAndCancelled()
	c.live.clean()
	c.everyPage()
	c.refusals()
}

// TestConsoleSoak is TestConsole with the real llama-server, and what takes longer.
func TestConsoleSoak(t *testing.T) {
	if os.Getenv("WATTLINE_SOAK") == "" {
		t.Skip("minutes of a real browser: WATTLINE_SOAK=1")
	}
	up := llamatest.Start(t, "-c", "65536", "-np", "2")
	c := newConsoleRun(t, up.URL(), longPrompt, llamatest.Tokens(t, up, 400*time.Millisecond, 200))
	c.axe = axeSource(t)
	c.inLive()
	c.hostileAndCancelled()
	_, a := c.w.ask(t.Context(), t, "codex", c.prompt, c.tokens) // two at once
	_, b := c.w.ask(t.Context(), t, "opencode", "ba ce di", c.tokens)
	<-a
	<-b
	c.live.until("everything has settled", `![...document.querySelectorAll("main tr[data-id]")].some((tr) => tr.dataset.phase !== "row" || tr.textContent.includes("settling"))`)
	t.Run("power", func(t *testing.T) { stackedPower(t, c.w, c.live, c.began) })
	c.live.shoot("live")
	c.live.clean()
	c.everyPage()
	c.refusals()
	c.restart()
}

// inLive: a request is in Live within a second, goes through its phases, and its row is finished in place.
func (c *consoleRun) inLive() {
	t := c.t
	sent := time.Now().UnixMilli()
	id, done := c.w.ask(t.Context(), t, "curl", c.prompt, c.tokens)
	c.id = id
	c.live.until("the request is in Live", `noted[`+js(id)+`]`)
	c.live.until("its model is told while it runs", `noted[`+js(id)+`].tr.textContent.includes("curl-model")`)
	<-done
	c.live.until("its row is finished", `noted[`+js(id)+`].phases.at(-1) === "row"`)
	c.live.until("its joules are there", `noted[`+js(id)+`].tr.querySelector(".num")`)
	n := c.live.noted(id)
	if late := n.At - sent; late > 1000 {
		t.Errorf("the request was in Live after %d ms, at most 1 s is wanted", late)
	}
	t.Logf("in Live %d ms after it was sent; %v; %s", n.At-sent, n.Phases, n.Energy)
	if got := strings.Join(n.Phases, " "); !strings.Contains(got, "prefill decode") || !strings.HasSuffix(got, "row") || !n.Same {
		t.Errorf("its bar and row went through %q, in one element: %v", got, n.Same)
	}
	if !strings.HasSuffix(n.Energy, "J") || !strings.Contains(n.Energy, "±") {
		t.Errorf("its energy is %q", n.Energy)
	}
}

// hostileAndCancelled: a request whose names are markup is cancelled.
func (c *consoleRun) hostileAndCancelled() {
	ctx, cancel := context.WithCancel(c.t.Context())
	id, done := c.w.ask(ctx, c.t, hostile, "ba ce di", 100000)
	c.live.until("it runs", `noted[`+js(id)+`]?.phases.includes("decode")`)
	cancel()
	<-done
	c.live.until("it is cancelled", `noted[`+js(id)+`].tr.lastElementChild.textContent === "cancelled"`)
}

// stackedPower: what is stacked is the device's power, and a dragged span has the joules of its rows.
func stackedPower(t *testing.T, w *wattlineProcess, page *tab, began time.Time) {
	from, to := began.Add(-time.Second).Truncate(time.Second), time.Now().Add(-4*time.Second).Truncate(time.Second)
	var sum struct {
		Steps, Settled   int
		Worst, Parts, Uj float64
		Step             float64
	}
	page.until("the span is settled", fmt.Sprintf(stepsOf, from.UnixMilli(), to.UnixMilli())+`.then((s) => s.Settled === s.Steps && s.Steps > 0)`)
	page.eval(fmt.Sprintf(stepsOf, from.UnixMilli(), to.UnixMilli()), &sum)
	status, body := w.get(t, fmt.Sprintf("/api/energy?from=%s&to=%s", from.UTC().Format(time.RFC3339), to.UTC().Format(time.RFC3339)))
	var energy struct {
		Power []struct {
			At       time.Time
			EnergyUj *float64 `json:"energy_uj"`
		}
	}
	if err := json.Unmarshal([]byte(body), &energy); err != nil || status != 200 {
		t.Fatal(status, err, body)
	}
	device := 0.0
	for _, p := range energy.Power {
		if p.EnergyUj != nil && !p.At.Before(from) && p.At.Before(to) {
			device += *p.EnergyUj
		}
	}
	t.Logf("%d steps: stacked %.1f J, their device power %.1f J, table power %.1f J; the worst step is %.3f %% off", sum.Steps, sum.Parts/1e6, sum.Uj/1e6, device/1e6, 100*sum.Worst)
	if sum.Worst > 0.01 || device == 0 || sum.Parts/device < 0.99 || sum.Parts/device > 1.01 {
		t.Errorf("the stack is not the device's power within 1 %%")
	}

	// Drag over the chart from its left end to its right: all requests are inside.
	var box struct{ X, Y, W, H float64 }
	page.eval(`(() => { document.querySelector('section[aria-label="Power by request"]').scrollIntoView(); const r = document.querySelector('section[aria-label="Power by request"] .u-over').getBoundingClientRect(); return { X: r.x, Y: r.y, W: r.width, H: r.height }; })()`, &box)
	drag := []chromedp.Action{chromedp.MouseEvent("mouseMoved", box.X+2, box.Y+box.H/2), chromedp.MouseEvent("mousePressed", box.X+2, box.Y+box.H/2, chromedp.ButtonLeft)}
	for i := 1; i <= 8; i++ {
		drag = append(drag, chromedp.MouseEvent("mouseMoved", box.X+2+(box.W-4)*float64(i)/8, box.Y+box.H/2, chromedp.ButtonLeft))
	}
	page.do(append(drag, chromedp.MouseEvent("mouseReleased", box.X+box.W-2, box.Y+box.H/2, chromedp.ButtonLeft))...)
	page.until("a span is selected", `document.querySelector("[data-active-uj]")`)
	var got struct{ Active, Rows, N, From, To float64 }
	page.eval(`import("/web/lib/live.js").then((m) => { const p = new URLSearchParams(location.search), a = Number(p.get("a")), z = Number(p.get("z"));
	  const rows = [...m.live.rows.values()].filter((r) => Date.parse(r.started_at) >= a && Date.parse(r.started_at) + r.duration_us / 1000 <= z && r.gpu_active_uj !== null);
	  return { Active: Number(document.querySelector("[data-active-uj]").dataset.activeUj) - Number(document.querySelector("[data-active-uj]").dataset.guessedUj), Rows: rows.reduce((n, r) => n + r.gpu_active_uj, 0), N: rows.length, From: a, To: z }; })`, &got)
	t.Logf("dragged %.1f s: %.2f J; its %g rows: %.2f J", (got.To-got.From)/1000, got.Active/1e6, got.N, got.Rows/1e6)
	if got.N < 3 || got.Rows == 0 || got.Active/got.Rows < 0.99 || got.Active/got.Rows > 1.01 {
		t.Error("the span does not have the joules of its rows")
	}
	page.shoot("live-selected")
	page.do(chromedp.NavigateBack())
	page.until("back clears the selection", `!document.querySelector("[data-active-uj]")`)
}

// everyPage: each page by a deep link, after a reload and after going back; hostile names are text; bad input is a sentence.
func (c *consoleRun) everyPage() {
	page := c.browser.open(c.t, c.w.admin, "/runs", 1600, 1000)
	const problem = `document.querySelector("main .problem")?.textContent.includes(`
	for _, v := range []struct{ name, path, shows string }{
		{"requests", "/requests?since=24h&sort=-duration_us", `document.querySelectorAll("main tbody tr[data-row]").length > 1 && document.querySelector("main").textContent.includes('\"><img')`},
		{"request", "/requests/" + c.id, `document.querySelector("main h1")?.textContent.includes("curl") && document.querySelectorAll("main svg rect").length > 3`},
		{"sessions", "/sessions", `document.querySelectorAll("main tbody tr[data-row]").length > 1 && document.querySelector("main").textContent.includes('\"><img')`},
		{"session", "/sessions/curl", `document.querySelector("main h1")?.textContent.includes("curl") && document.querySelectorAll("main svg rect").length > 2`},
		{"energy", "/energy?since=1h", `document.querySelector("[data-difference]")?.dataset.difference === "0" && document.querySelector("main").textContent.includes('\"><img')`},
		{"queries", "/queries/by-client", `document.querySelector("main table tbody tr") && document.querySelector("main").textContent.includes('\"><img')`},
		{"sql", "/queries?sql=SELECT+agent,+count(*)+AS+n+FROM+requests+GROUP+BY+agent", `document.querySelectorAll("main table tbody tr").length > 1`},
		{"health", "/health", `document.querySelector("main table") && document.querySelector("main").textContent.includes("no row was lost")`},
		{"runs", "/runs", `document.querySelector("main").textContent.includes("--runs")`},
		{"live", "/live", `document.querySelectorAll("main tr[data-id]").length > 1 && document.querySelector("main").textContent.includes('\"><img')`},
		{"sql that writes", "/queries?sql=DELETE+FROM+requests", problem + `"read")`},
		{"a filter that is none", "/requests?nix=1", problem + `'"nix"')`},
		{"a filter of nonsense", "/requests?slower_than=soon", problem + `"slower_than must be a duration")`},
		{"an unknown id", "/requests/01a2217f-90fb-79e3-a1ee-e61802a80a1b", problem + `"no request has this id")`},
	} {
		page.tolerating(strings.Contains(v.shows, ".problem")) // the browser logs the status 4xx
		page.visit(v.path)
		page.until(v.name+" by its link", v.shows)
		if c.axe == "" && strings.Contains(v.shows, ".problem") {
			page.clean()
			continue
		}
		if c.axe != "" || v.name == "live" || v.name == "requests" { // a load costs a second of CPU
			page.do(chromedp.Reload())
			page.until(v.name+" after a reload", v.shows)
		}
		page.eval(`import("/web/lib/route.js").then((m) => m.go("/health?x"))`, nil)
		page.until("another page", `location.pathname === "/health" && document.querySelector("main h1")?.textContent.startsWith("Health")`)
		page.do(chromedp.NavigateBack())
		page.until(v.name+" after going back", `location.pathname + location.search === `+js(v.path)+` && `+v.shows)
		var inert struct{ Ran, Images int }
		page.eval(`({ Ran: window.ran || 0, Images: document.images.length + document.querySelectorAll("main script").length })`, &inert)
		if inert.Ran != 0 || inert.Images != 0 {
			c.t.Errorf("%s: a name became markup: %+v", v.name, inert)
		}
		if c.axe != "" {
			page.axe(c.axe, v.name)
			page.shoot(v.name)
		}
		page.clean()
	}
}

// restart: serve goes away and comes back on the same addresses; the open page says so and recovers.
func (c *consoleRun) restart() {
	page := c.live
	page.tolerating(true)
	c.w.stop(c.t)
	page.until("it says that the connection is lost", `document.querySelector(".banner")?.textContent.includes("Connection lost at")`)
	page.shoot("lost")
	addr := func(url string) string { return strings.TrimPrefix(url, "http://") }
	next := start(c.t, append([]string{"serve", "--upstream", c.up, "--listen", addr(c.w.url), "--admin", addr(c.w.admin), "--store", c.w.store}, c.args...)...)
	page.until("it comes back", `!document.querySelector(".banner") && import("/web/lib/live.js").then((m) => m.live.ready)`)
	id, done := next.ask(c.t.Context(), c.t, "curl", "ba ce di", c.tokens)
	<-done
	page.until("what comes then is shown", `document.querySelector('main tr[data-id="'+`+js(id)+`+'"]')`)
	page.clean()
}
