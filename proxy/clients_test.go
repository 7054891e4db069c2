package proxy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wattline/deploy/debian"
	"wattline/deploy/llama"
	"wattline/meter"
	"wattline/proxy/llamatest"
)

// toolFront stands in front of a llama-server with a small model that calls tools. Its weights are random: a
// bias makes it begin a call (token 1695 is the "dozu" of its template; 2044 ends the text, which the
// grammar holds back until the call is complete), and the server's grammar does the rest.
func toolFront(t *testing.T) *front {
	t.Helper()
	template, err := filepath.Abs("testdata/clients/tools.jinja")
	if err != nil {
		t.Fatal(err)
	}
	srv := llamatest.Start(t, "--jinja", "--chat-template-file", template, "--logit-bias", "1695+50", "--logit-bias", "2044+60", "--seed", "1",
		"-t", "1", "-tb", "1", "-np", "2", "-c", "8192")
	return startFront(t, srv.URL())
}

// npmClients is the folder in the cache where the two npm packages are, installed if need be.
func npmClients(t *testing.T) string {
	t.Helper()
	manifest, err := os.ReadFile("testdata/clients/package.json")
	if err != nil {
		t.Fatal(err)
	}
	cache, err := llama.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, fmt.Sprintf("npm-clients-%x", sha256.Sum256(manifest))[:24])
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		debian.LeaveOut(t, fmt.Sprintf("this test needs Node.js with npm: install them, or copy a filled %s here: %v", dir, err))
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	tmp, err := os.MkdirTemp(cache, ".npm-clients-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	if err := os.WriteFile(filepath.Join(tmp, "package.json"), manifest, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, npm, "install", "--fetch-retries", "5", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock", "--omit=optional", "--omit=peer")
	cmd.Dir = tmp
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm install of the clients in testdata/clients/package.json (is the registry reachable?): %v\n%s", err, out)
	}
	if err := os.Rename(tmp, dir); err != nil && !errors.Is(err, os.ErrExist) { // someone else was faster
		if _, serr := os.Stat(dir); serr != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestNodeClients: the npm packages openai and @anthropic-ai/sdk against the real llama-server.
func TestNodeClients(t *testing.T) {
	dir := npmClients(t)
	f, tools := startFront(t, real.Server(t).URL()), toolFront(t)
	node, err := exec.LookPath("node")
	if err != nil {
		debian.LeaveOut(t, fmt.Sprintf("this test needs Node.js: %v", err))
	}
	// Node looks for packages beside the script, so the script goes where they are.
	script, err := os.ReadFile("testdata/clients/clients.mjs")
	if err != nil {
		t.Fatal(err)
	}
	tmp, err := os.MkdirTemp(dir, ".run-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	if err := os.WriteFile(filepath.Join(tmp, "clients.mjs"), script, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, filepath.Join(tmp, "clients.mjs"), f.url(), tools.url())
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, errs.String())
	}
	type found struct {
		Error, Finish, Stop, Name, N, Type, Role string
		Tokens                                   int64
		Text, Models, Events, Status             int
	}
	var report map[string]found
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("%s", out)
	checks := map[string]func(f found) bool{
		"openai-models":      func(f found) bool { return f.Models == 1 },
		"openai-whole":       func(f found) bool { return f.Tokens == 20 && f.Finish == "length" },
		"openai-stream":      func(f found) bool { return f.Tokens == 40 && f.Finish == "length" && f.Text > 40 },
		"openai-completions": func(f found) bool { return f.Text > 10 },
		"openai-responses":   func(f found) bool { return f.Type == "response.completed" && f.Tokens > 0 },
		"openai-tools":       func(f found) bool { return f.Name == "get_weather" && f.N == "number" },
		"openai-abort":       func(f found) bool { return f.Events >= 3 },
		"openai-error":       func(f found) bool { return f.Status == 400 && f.Name == "BadRequestError" },
		"anthropic-whole":    func(f found) bool { return f.Tokens > 0 && f.Role == "assistant" },
		"anthropic-stream":   func(f found) bool { return f.Tokens > 0 && f.Text > 0 && f.Stop != "" },
		"anthropic-tools":    func(f found) bool { return f.Name == "get_weather" && f.N == "number" },
		"anthropic-abort":    func(f found) bool { return f.Events >= 3 && strings.Contains(f.Name, "Abort") },
		"anthropic-count":    func(f found) bool { return f.Tokens > 0 },
	}
	for name, check := range checks {
		got, ok := report[name]
		if !ok || got.Error != "" || !check(got) {
			t.Errorf("%s: %+v", name, got)
		}
		behind := f
		if strings.HasSuffix(name, "tools") {
			behind = tools
		}
		rec := behind.rows.row(t, name)
		want := meter.OK
		switch {
		case strings.HasSuffix(name, "abort"):
			want = meter.Cancelled
		case strings.HasSuffix(name, "error"):
			want = meter.UpstreamError
		}
		if rec.Outcome != want || (got.Tokens > 0 && name != "anthropic-count" && rec.OutputTokens != meter.Some(got.Tokens)) {
			t.Errorf("%s: row %s, %+v tokens where the client saw %d", name, rec.Outcome, rec.OutputTokens, got.Tokens)
		}
	}
}

// TestCurl: streamed, whole, HTTP/1.0, an upload from a file with Expect, and one that is interrupted.
func TestCurl(t *testing.T) {
	curl := debian.Need(t, "curl")
	f := startFront(t, real.Server(t).URL())
	big := filepath.Join(t.TempDir(), "body.json")
	prompt := `{"content":"` + strings.Repeat("words and words ", 20000) + `"}`
	if err := os.WriteFile(big, []byte(prompt), 0o600); err != nil {
		t.Fatal(err)
	}
	url := f.url()
	// The shared server's slots are full within a second on a quick machine, and a stream without a reader is not over.
	endless := startFront(t, llamatest.Start(t, "-np", "1", "-c", "131072").URL())
	for _, c := range []struct {
		name string
		args []string
		want string
		exit int
	}{
		{"stream", []string{"-N", url + "/v1/chat/completions", "-d", chat(20, "")}, "data: [DONE]\n", 0},
		{"HTTP/1.0", []string{"--http1.0", "-N", url + "/v1/chat/completions", "-d", chat(20, "")}, "data: [DONE]\n", 0},
		{"head", []string{"-I", url + "/health"}, "Content-Length: 15", 0},
		{"expect", []string{"-H", "Expect: 100-continue", "-H", "Content-Type: application/json", url + "/tokenize", "-d", "@" + big}, `{"tokens":[`, 0},
		{"chunked", []string{"-H", "Transfer-Encoding: chunked", "-H", "Expect:", "-H", "Content-Type: application/json", url + "/tokenize", "-d", "@" + big}, `{"tokens":[`, 0},
		{"two on one connection", []string{url + "/health", url + "/v1/models"}, `"object":"list"`, 0},
		{"refused", []string{"-f", url + "/nothing"}, "", 22},
		{"interrupted", []string{"-N", "-m", "4", "--limit-rate", "20k", "-H", "X-Request-Id: interrupted", endless.url() + "/completion", "-d", `{"prompt":"x","stream":true,"n_predict":1000000,"ignore_eos":true}`}, "data: ", 28},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, curl, append([]string{"-s"}, c.args...)...)
			out, err := cmd.Output()
			if code := cmd.ProcessState.ExitCode(); code != c.exit || !bytes.Contains(out, []byte(c.want)) {
				t.Errorf("exit %d (%v), %s", code, err, short(string(out)))
			}
		})
	}
	if rec := endless.rows.row(t, "interrupted"); rec.Outcome != meter.Cancelled {
		t.Errorf("row: %s", rec.Outcome)
	}
}

// TestOpenAIGo: openai-go, from a module of its own (testdata/openai-go).
func TestOpenAIGo(t *testing.T) {
	f, tools := startFront(t, real.Server(t).URL()), toolFront(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // it may have to be compiled first
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "run", ".", f.url(), tools.url())
	cmd.Dir = "testdata/openai-go"
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=off")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, errs.String())
	}
	type found struct {
		Error, Finish, Name, N string
		Tokens                 int64
		Text, Models           int
		Events, Status         int
		Canceled               bool
	}
	var report map[string]found
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("%s", out)
	for name, c := range map[string]struct {
		check   func(f found) bool
		outcome meter.Outcome
		behind  *front
	}{
		"go-models": {func(f found) bool { return f.Models == 1 }, meter.OK, f},
		"go-whole":  {func(f found) bool { return f.Tokens == 20 && f.Finish == "length" }, meter.OK, f},
		"go-stream": {func(f found) bool { return f.Tokens == 40 && f.Text > 40 }, meter.OK, f},
		"go-tools":  {func(f found) bool { return f.Name == "get_weather" && f.N == "float64" }, meter.OK, tools},
		"go-abort":  {func(f found) bool { return f.Events >= 3 && f.Canceled }, meter.Cancelled, f},
		"go-error":  {func(f found) bool { return f.Status == 400 }, meter.UpstreamError, f},
	} {
		got, ok := report[name]
		if !ok || got.Error != "" || !c.check(got) {
			t.Errorf("%s: %+v", name, got)
		}
		rec := c.behind.rows.row(t, name)
		if rec.Outcome != c.outcome || (got.Tokens > 0 && rec.OutputTokens != meter.Some(got.Tokens)) {
			t.Errorf("%s: row %s, %+v tokens where the client saw %d", name, rec.Outcome, rec.OutputTokens, got.Tokens)
		}
	}
}
