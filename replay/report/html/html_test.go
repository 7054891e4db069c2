package html

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"wattline/deploy/debian"
	"wattline/replay"
	"wattline/replay/replaytest"
	"wattline/replay/report"
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
	body := strings.ReplaceAll(text, string(inScript(chartLibrary)), "")
	for _, m := range regexp.MustCompile(`(?i)(src|href|@import|url\()\s*=?\s*["']?[a-z]+:`).FindAllString(body, -1) {
		t.Errorf("the page refers to something outside: %s", m)
	}
	if n := strings.Count(text, "</script>"); n != 3 {
		t.Errorf("%d scripts end, want 3", n)
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

// chartTable reads the table of charts in report.js: how many there are, how many of them are drawn once a run, and how
// many need energy or rows measured in line.
func chartTable(t *testing.T) (all, perRun, needWattline int) {
	t.Helper()
	titles := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^  \{ title: "([^"]+)", note: "[^"]+", none: ("[^"]+"|\w+),(.*)\},$`).FindAllStringSubmatch(reportScript, -1) {
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
	if n := strings.Count(reportScript, "{ title: "); len(titles) != n || n < 8 {
		t.Fatalf("%d of %d lines of the table of charts were read: each needs title, note and none, in this order", len(titles), n)
	}
	return len(titles), perRun, needWattline
}

// TestChartsAreDrawn: a real browser draws every chart of the table, and reports no error.
func TestChartsAreDrawn(t *testing.T) {
	browser := debian.Need(t, "chromium")
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
		file := filepath.Join(t.TempDir(), "report.html")
		if err := os.WriteFile(file, []byte(c.page), 0o600); err != nil {
			t.Fatal(err)
		}
		dom, console := render(t, browser, file)
		if n := strings.Count(dom, "<canvas"); n != c.charts {
			t.Errorf("%s: %d charts were drawn, want %d", name, n, c.charts)
		}
		if n := strings.Count(dom, `class="none"`); n != c.none {
			t.Errorf("%s: %d charts say that nothing was measured, want %d", name, n, c.none)
		}
		if console != "" {
			t.Errorf("%s: the browser logs:\n%s", name, console)
		}
	}
}

// TestHostileNames: a real browser shows every tooltip of a page whose names are markup, and runs none of it.
func TestHostileNames(t *testing.T) {
	browser := debian.Need(t, "chromium")
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
	// Every point of every chart is pointed at, and each tooltip that comes is kept.
	page += `<script>
let shown = 0;
for (const box of document.querySelectorAll(".chart")) {
  const chart = echarts.getInstanceByDom(box);
  for (const [s, series] of chart.getOption().series.entries()) for (let i = 0; i < Math.min(series.data.length, 4); i++) {
    chart.dispatchAction({ type: "showTip", seriesIndex: s, dataIndex: i });
    const tip = [...box.children].filter((c) => c.textContent.includes("\x3cimg")).at(-1);
    if (tip) { shown++; document.body.append(tip.cloneNode(true)); }
  }
}
document.body.dataset.shown = shown;
document.body.dataset.images = document.images.length;
</script>`
	file := filepath.Join(t.TempDir(), "report.html")
	if err := os.WriteFile(file, []byte(page), 0o600); err != nil {
		t.Fatal(err)
	}
	dom, console := render(t, browser, file)
	shown := regexp.MustCompile(`data-shown="(\d+)"`).FindStringSubmatch(dom)
	if shown == nil || len(shown[1]) < 2 {
		t.Errorf("%v tooltips with a hostile name were shown, want 10 or more", shown)
	}
	if strings.Contains(dom, "<title>RUN") || !strings.Contains(dom, `data-images="0"`) || console != "" {
		t.Errorf("a name became markup; the browser logs: %s", console)
	}
	t.Logf("tooltips shown: %v", shown)
}

// render loads the page and returns its document after the scripts, and the lines of its console.
func render(t *testing.T, browser, file string) (dom, console string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--user-data-dir="+profile(t),
		"--enable-logging=stderr", "--v=0", "--window-size=1280,2400", "--virtual-time-budget=5000", "--dump-dom", "file://"+file)
	cmd.WaitDelay = 5 * time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && out.Len() == 0 {
		t.Fatalf("%s: %v\n%s", browser, err, errs.String())
	}
	for line := range strings.Lines(errs.String()) {
		if strings.Contains(line, "CONSOLE") {
			console += line
		}
	}
	return out.String(), console
}

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

// A tooltip's formatter returns HTML, and a run's label is the user's own text.
func TestTooltipsEscapeNames(t *testing.T) {
	formatters := 0
	for line := range strings.Lines(reportScript) {
		if !strings.Contains(line, `"<br>"`) {
			continue
		}
		formatters++
		if bare := regexp.MustCompile(`(\+|=>) [\w.\[\]]+\.(name|seriesName)\b`).FindString(line); bare != "" {
			t.Errorf("%q is not escaped in %s", bare, line)
		}
	}
	if formatters < 3 {
		t.Errorf("%d formatters were found", formatters)
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Log("no node on this machine: escaped() itself is not run")
		return
	}
	line := regexp.MustCompile(`(?m)^const escaped = .*$`).FindString(reportScript)
	out, err := exec.CommandContext(t.Context(), node, "-e", line+`process.stdout.write(escaped('<b onmouseover="x">&'))`).CombinedOutput()
	if err != nil || strings.ContainsAny(string(out), `<>"`) {
		t.Errorf("%s (%v)", out, err)
	}
}
