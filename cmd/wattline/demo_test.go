package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"wattline/cmd/wattline/internal/logging"
	"wattline/deploy/llama"
)

// screen is a stdout that a test can read while it is written.
type screen struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// runDemo starts a demo on free ports. ended receives its error.
func runDemo(t *testing.T, ctx context.Context, c demoCmd) (out, errs *screen, ended <-chan error) {
	t.Helper()
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	t.Setenv("STATE_DIRECTORY", "")
	t.Setenv("LLAMA_ARG_THREADS", "1") // several threads wait for each other at every step, for seconds on a busy machine
	c.GPU = "auto"
	c.listen, c.admin, c.rowsOnly = "127.0.0.1:0", "127.0.0.1:0", true // TestDemo is about the benchmark and --exit
	out, errs = new(screen), new(screen)
	done := make(chan error, 1)
	a := &app{ctx: ctx, stdout: out, stderr: errs, log: logging.New(errs, "text", nil)}
	go func() { done <- c.Run(a) }() // ends with ctx or by itself; every test waits for it
	return out, errs, done
}

var demoRow = regexp.MustCompile(`(?m)^\d\d-\d\d \S+ +[0-9a-f]{8}  (\S+) +/v1/chat/completions  ok +\d+ +\d+ +(\d+) `)

// checkReport checks the output of a demo: a row for each request, and one of them as a waterfall.
func checkReport(t *testing.T, out, model string) {
	t.Helper()
	rows := demoRow.FindAllStringSubmatch(out, -1)
	if len(rows) != 8 {
		t.Errorf("%d rows, not 8", len(rows))
	}
	tokens := map[string]int{}
	for _, r := range rows {
		if r[1] != model {
			t.Errorf("model %q in a row", r[1])
		}
		tokens[r[2]]++
	}
	if tokens["16"] != 1 || tokens["64"] != 2 || tokens["128"] != 5 {
		t.Errorf("output tokens: %v", tokens)
	}
	for _, want := range []string{"\nqueue ", "\nprefill ", "\ndecode ", "first token (ttft)", "end (duration)", "tokens_per_second", "█"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in the waterfall", want)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}

// TestDemoWithYourModel: --model FILE; the printed commands work while the demo runs; Ctrl-C ends it.
func TestDemoWithYourModel(t *testing.T) {
	tiny, err := llama.TinyModel(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(tiny)
	if err != nil {
		t.Fatal(err)
	}
	model := filepath.Join(t.TempDir(), "mine.gguf")
	if err := os.WriteFile(model, text, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	out, errs, ended := runDemo(t, ctx, demoCmd{Model: model})
	const stays = "wattline runs until Ctrl-C"
	for until := time.Now().Add(patience); !strings.Contains(out.String(), "The console, in a browser: http://"); {
		select {
		case err := <-ended:
			t.Fatalf("it ended with %v\n%s%s", err, out, errs)
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(until) {
			t.Fatalf("it does not print %q:\n%s%s", stays, out, errs)
		}
	}
	said := out.String()
	checkReport(t, said, "mine")
	if strings.Contains(said, "weights are random") {
		t.Error("it says that your model is random")
	}
	runHints(t, said[strings.Index(said, stays):])
	interrupt()
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// TestDemoInterrupted: after Ctrl-C the only error is "interrupted".
func TestDemoInterrupted(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	_, _, ended := runDemo(t, ctx, demoCmd{})
	if err := <-ended; err == nil || err.Error() != "interrupted" {
		t.Errorf("it ended with %v", err)
	}
}

// runHints runs the commands that the demo prints.
func runHints(t *testing.T, hints string) {
	t.Helper()
	chat := regexp.MustCompile(`curl (\S+) -d '(.*)'`).FindStringSubmatch(hints)
	api := regexp.MustCompile(`curl (http://\S+)/api/requests\?limit=1 `).FindStringSubmatch(hints)
	if chat == nil || api == nil {
		t.Fatalf("no curl in %s", hints)
	}
	resp, err := http.Post(chat[1], "application/json", strings.NewReader(chat[2]))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || !bytes.HasSuffix(body, []byte("data: [DONE]\n\n")) {
		t.Errorf("chat: %s %s", resp.Status, body)
	}
	// The demo's own clients go on: theirs may be the latest row, and they are in flight.
	for path, want := range map[string]string{"/api/requests?limit=1": `"output_tokens":`, "/api/inflight": "["} {
		status, body := get(t, "GET", api[1]+path, "")
		for until := time.Now().Add(patience); !strings.Contains(body, want) && time.Now().Before(until); { // the row may come after the reply
			<-time.After(20 * time.Millisecond)
			status, body = get(t, "GET", api[1]+path, "")
		}
		if status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^  wattline (\w+) (.*)$`).FindAllStringSubmatch(hints, -1) {
		var args []string
		for _, word := range regexp.MustCompile(`"[^"]*"|\S+`).FindAllString(m[2], -1) {
			args = append(args, strings.Trim(word, `"`))
		}
		if out, _ := output(t, 0, append([]string{m[1]}, args...)...); strings.Count(out, "\n") < 2 {
			t.Errorf("wattline %s %s printed %q", m[1], m[2], out)
		}
	}
}
