package html

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	pagecdp "github.com/chromedp/cdproto/page"
	cdpruntime "github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"wattline/deploy/debian"
	"wattline/replay"
	"wattline/replay/replaytest"
	"wattline/replay/report"
	"wattline/sink/console/web"
)

func run(label string, change func(*replay.Spec, *replay.Run)) report.LabelledRun {
	s := replay.Quick()
	s.Trials = 2
	if change != nil {
		change(&s, nil)
	}
	r := replaytest.Run(s)
	if change != nil {
		change(nil, r)
	}
	return report.LabelledRun{Label: label, Run: r, Results: r.Results(), Devices: r.Power.Devices}
}

// bare is a run without wattline and without energy.
func bare(_ *replay.Spec, r *replay.Run) {
	if r == nil {
		return
	}
	for _, e := range r.Exchanges {
		e.InLine = nil
	}
	r.Power, r.Gauge, r.Joined = replay.Power{}, nil, false
}

func written(t *testing.T, runs ...report.LabelledRun) string {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, runs); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPageIsSelfContained(t *testing.T) {
	text := written(t, run("a", nil))
	for _, m := range regexp.MustCompile(`(?i)(src|href|@import|url\()\s*=?\s*["']?[a-z]+:`).FindAllString(text, -1) {
		t.Errorf("the page refers to something outside: %s", m)
	}
	if n := strings.Count(text, "</script>"); n != 3 {
		t.Errorf("%d scripts end, want 3", n)
	}
	data := regexp.MustCompile(`(?s)id="data">.*?</script>`).FindString(text)
	if n := len(text) - len(data); data == "" || n > 200_000 {
		t.Errorf("the page has %d bytes besides its data, 200 kB at most are wanted", n)
	}
	if !strings.Contains(text, "coding 100k x 256") || !strings.Contains(text, "valid") {
		t.Error("the tables are not in the page without scripts")
	}
}

func TestPageEscapesNames(t *testing.T) {
	evil := `</script><script>alert(1)</script><b onmouseover="x">`
	r := run(evil, nil)
	r.Results.Model = evil
	text := written(t, r)
	if strings.Contains(text, evil) || strings.Contains(text, "<b onmouseover") {
		t.Error("a label is markup")
	}
	if n := strings.Count(text, "</script>"); n != 3 {
		t.Errorf("%d scripts end, want 3", n)
	}
}

// chartTable reads the table of charts: how many there are, how many of them are drawn once a run, and how many need energy
// or rows measured in line.
func chartTable(t *testing.T) (all, perRun, needWattline int) {
	t.Helper()
	text, err := web.Files.ReadFile("lib/runcharts.js")
	if err != nil {
		t.Fatal(err)
	}
	titles := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^  \{ title: "([^"]+)", note: "[^"]+", none: ("[^"]+"|\w+),(.*)\},$`).FindAllStringSubmatch(string(text), -1) {
		if titles[m[1]] {
			t.Errorf("two charts have the title %q", m[1])
		}
		titles[m[1]] = true
		if strings.Contains(m[3], "perRun: true") {
			perRun++
		}
		if m[2] == "noEnergy" || m[2] == "noRows" {
			needWattline++
		}
	}
	if n := strings.Count(string(text), "{ title: "); len(titles) != n || n < 8 {
		t.Fatalf("%d of %d lines of the table of charts were read: each needs title, note and none, in this order", len(titles), n)
	}
	return len(titles), perRun, needWattline
}

// TestChartsAreDrawn: a real browser draws every chart of the table, and reports no error.
func TestChartsAreDrawn(t *testing.T) {
	render := browser(t)
	all, perRun, needWattline := chartTable(t)
	for name, c := range map[string]struct {
		page         string
		charts, none int
	}{
		"one run": {written(t, run("a", nil)), all, 0},
		"two runs": {written(t, run("a", nil), run("b", func(s *replay.Spec, _ *replay.Run) {
			if s != nil {
				s.Seed = 2
			}
		})), all + perRun, 0},
		"without energy": {written(t, run("a", bare)), all - needWattline, needWattline},
	} {
		dom, console := render(c.page, fmt.Sprintf(`document.querySelectorAll("[data-chart]").length >= %d && document.querySelectorAll("canvas, svg").length >= %d`, c.charts+c.none, c.charts))
		if n := strings.Count(dom, `data-chart="drawn"`); n != c.charts {
			t.Errorf("%s: %d charts were drawn, want %d", name, n, c.charts)
		}
		if n := strings.Count(dom, "<canvas") + strings.Count(dom, "<svg"); n < c.charts {
			t.Errorf("%s: %d charts have %d pictures", name, c.charts, n)
		}
		if n := strings.Count(dom, `data-chart="none"`); n != c.none {
			t.Errorf("%s: %d charts say that nothing was measured, want %d", name, n, c.none)
		}
		if console != "" {
			t.Errorf("%s: the browser logs:\n%s", name, console)
		}
	}
}

// TestHostileNames: a real browser shows every tooltip of a page whose names are markup, and runs none of it.
func TestHostileNames(t *testing.T) {
	render := browser(t)
	const evil = `"><img src=x onerror="document.title='RUN'"><script>document.title='RUN'</script>`
	hostile := run(evil, func(_ *replay.Spec, r *replay.Run) {
		if r == nil {
			return
		}
		for i := range r.Plan.Cells {
			r.Plan.Cells[i].Task = evil
		}
		for _, e := range r.Exchanges {
			e.Cell.Task = evil
		}
		for i := range r.Power.Samples {
			r.Power.Samples[i].Device = evil
		}
	})
	hostile.Results.Model = evil
	page := written(t, hostile, run("b"+evil, nil))
	// The pointer goes over every chart; each tip that comes is counted, and so are the titles of bars.
	page += `<script type="module">
const rest = () => new Promise((done) => setTimeout(done, 10));
for (let tries = 0; !document.querySelector(".u-over") && tries < 100; tries++) await rest();
await rest();
let shown = 0;
for (const over of document.querySelectorAll(".u-over")) {
  over.scrollIntoView();
  const box = over.getBoundingClientRect();
  for (const down of [0.15, 0.5, 0.85]) for (let k = 0.5; k < 8; k++) {
    over.dispatchEvent(new MouseEvent("mousemove", { bubbles: true, clientX: box.left + (box.width * k) / 8, clientY: box.top + box.height * down }));
    await rest();
    if (over.closest(".chart").querySelector(".tip")?.textContent.includes("\x3cimg")) shown++;
  }
}
document.body.dataset.shown = shown;
document.body.dataset.titles = [...document.querySelectorAll("svg title")].filter((t) => t.textContent.includes("\x3cimg")).length;
document.body.dataset.images = document.images.length;
</script>`
	dom, console := render(page, `document.body.dataset.images !== undefined`)
	shown := regexp.MustCompile(`data-shown="(\d+)"`).FindStringSubmatch(dom)
	if shown == nil || len(shown[1]) < 2 {
		t.Errorf("%v tips with a hostile name were shown, want 10 or more", shown)
	}
	if strings.Contains(dom, `data-titles="0"`) {
		t.Error("no bar has a hostile title")
	}
	if strings.Contains(dom, "<title>RUN") || !strings.Contains(dom, `data-images="0"`) || console != "" {
		t.Errorf("a name became markup; the browser logs: %s", console)
	}
	t.Logf("tips shown: %v", shown)
}

// browser starts a real browser. render loads a page in it, waits until ready is true and everything was painted, and returns
// the document and the lines of its console.
func browser(t *testing.T) (render func(page, ready string) (dom, console string)) {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(debian.Need(t, "chromium")), chromedp.NoSandbox, chromedp.DisableGPU, //nolint:gocritic // a copy
		chromedp.UserDataDir(profile(t)), chromedp.Flag("disable-dev-shm-usage", true), chromedp.WindowSize(1280, 2400), chromedp.WSURLReadTimeout(patience))
	alloc, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	first, cancel := chromedp.NewContext(alloc)
	t.Cleanup(cancel)
	if err := chromedp.Run(first); err != nil {
		t.Fatal(err)
	}
	return func(page, ready string) (dom, console string) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "report.html")
		if err := os.WriteFile(file, []byte(page), 0o600); err != nil {
			t.Fatal(err)
		}
		tab, cancel := chromedp.NewContext(first)
		defer cancel()
		ctx, cancel := context.WithTimeout(tab, patience)
		defer cancel()
		var mu sync.Mutex // guards said
		var said strings.Builder
		chromedp.ListenTarget(tab, func(event any) {
			mu.Lock()
			defer mu.Unlock()
			switch e := event.(type) {
			case *cdpruntime.EventExceptionThrown:
				fmt.Fprintln(&said, e.ExceptionDetails.Error())
			case *cdpruntime.EventConsoleAPICalled:
				fmt.Fprintf(&said, "console.%s: %s\n", e.Type, e.Args[0].Value)
			case *cdplog.EventEntryAdded:
				fmt.Fprintln(&said, e.Entry.Text)
			}
		})
		await := func(p *cdpruntime.EvaluateParams) *cdpruntime.EvaluateParams { return p.WithAwaitPromise(true) }
		done := `(async () => { while (!(` + ready + `)) await new Promise((next) => setTimeout(next, 10));
			for (let i = 0; i < 3; i++) await new Promise((next) => requestAnimationFrame(() => setTimeout(next, 10))); return document.documentElement.outerHTML; })()`
		if err := chromedp.Run(ctx, cdplog.Enable(), pagecdp.BringToFront(), emulation.SetFocusEmulationEnabled(true), chromedp.Navigate("file://"+file), chromedp.Evaluate(done, &dom, await)); err != nil {
			_ = chromedp.Run(tab, chromedp.Evaluate("document.documentElement.outerHTML", &dom))
			t.Errorf("never %s: %v", ready, err)
		}
		mu.Lock()
		defer mu.Unlock()
		return dom, said.String()
	}
}

// patience bounds every wait for the browser; only a hang takes so long.
const patience = 2 * time.Minute

// profile is a folder for a browser; its processes may write into it a little after the browser has ended.
func profile(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "browser-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for deadline := time.Now().Add(time.Minute); os.RemoveAll(dir) != nil && time.Now().Before(deadline); {
			<-time.After(50 * time.Millisecond)
		}
	})
	return dir
}
