package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"wattline/deploy/llama"
	"wattline/proxy/llamatest"
)

// config is a row of table configs.
type config struct {
	ID       string  `json:"config_id"`
	Upstream string  `json:"upstream"`
	Build    *string `json:"server_build"`
	Flags    *string `json:"server_flags"`
	Model    *string `json:"model"`
	Type     *string `json:"quantisation"`
	Context  *int64  `json:"context_tokens"`
	Slots    *int64  `json:"slots"`
	GPUs     *string `json:"gpus"`
	Limit    *int64  `json:"gpu_power_limit_mw"`
	Version  *string `json:"wattline_version"`
}

func (w *wattlineProcess) configs(t *testing.T) (out []config) {
	t.Helper()
	text, err := command(t, "query", "SELECT * FROM configs ORDER BY at", "--store", w.store, "--format", "json").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var c config
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		out = append(out, c)
	}
	return out
}

// rowWith sends requests until a row has a config_id that satisfies the condition.
func (w *wattlineProcess) rowWith(t *testing.T, good func(id string) bool) string {
	t.Helper()
	last := ""
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-time.After(50 * time.Millisecond) {
		r := w.post(t.Context(), "/completion", map[string]any{"prompt": "ba ce di", "n_predict": 2})
		if r.err != nil || r.id == "" {
			continue
		}
		if last = w.row(t, r.id).ConfigID; good(last) {
			return last
		}
	}
	t.Fatalf("no row has the config_id that was waited for; the last one has %q", last)
	return ""
}

func nonEmpty(id string) bool { return id != "" }

// restartServer starts a llama-server with these arguments and waits until it serves.
func restartServer(t *testing.T, url string, args []string) *exec.Cmd {
	t.Helper()
	bin, err := llama.Find(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin.Path, args...)
	endWithTest(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-time.After(50 * time.Millisecond) {
		resp, err := http.Get(url + "/health")
		if err != nil {
			continue
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return cmd
		}
	}
	t.Fatal("the server does not serve again")
	return nil
}

// argsOf returns the arguments of a running llama-server.
func argsOf(t *testing.T, pid int) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err != nil {
		t.Fatal(err)
	}
	line := strings.Split(strings.TrimRight(string(text), "\x00"), "\x00")
	at := slices.IndexFunc(line, func(a string) bool { return filepath.Base(a) == "llama-server" })
	return line[at+1:]
}

// TestServerConfigChanges: rows have the config_id of a real server. After a restart with the same arguments it is the
// same, with another context size it is another one. A secret on the server's command line is stored nowhere.
func TestServerConfigChanges(t *testing.T) {
	t.Parallel()
	const secret = "S3CRETofTheHub"
	up := llamatest.Start(t, "-np", "2", "-c", "4096", "-a", "tiny", "-hft", secret)
	w := serve(t, up.URL(), "--gpu", "sim")
	first := w.rowWith(t, nonEmpty)
	got := w.configs(t)
	if len(got) == 1 && got[0].Limit == nil { // the GPU's limit was not known in the first 2 s; it is read again after a minute
		first = w.rowWith(t, func(id string) bool { return id != "" && id != got[0].ID })
		got = w.configs(t)[1:]
	}
	if len(got) != 1 {
		t.Fatalf("%d rows: %+v", len(got), got)
	}
	before := len(w.configs(t)) - 1
	c := got[0]
	if len(first) != 16 || c.ID != first || c.Upstream != up.URL() || c.Build == nil || *c.Build == "" || c.Model == nil || *c.Model != "tiny" ||
		c.Type == nil || c.Context == nil || *c.Context != 2048 || c.Slots == nil || *c.Slots != 2 || c.Version == nil ||
		c.GPUs == nil || !strings.Contains(*c.GPUs, "SIMULATED") || c.Limit == nil || *c.Limit != 700e3 {
		text, _ := json.Marshal(c)
		t.Errorf("row %s of requests with config_id %s", text, first)
	}
	if c.Flags == nil || !strings.Contains(*c.Flags, "4096") || !strings.Contains(*c.Flags, "***") {
		t.Errorf("flags: %+v", c.Flags)
	}

	args := argsOf(t, up.PID())
	if err := up.Stop(); err != nil {
		t.Fatal(err)
	}
	cmd := restartServer(t, up.URL(), args)
	w.rowWith(t, func(id string) bool { return id == "" }) // the new process was not asked yet
	if id := w.rowWith(t, nonEmpty); id != first {
		t.Errorf("the same server has config_id %s, not %s: %+v", id, first, w.configs(t))
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	restartServer(t, up.URL(), append(args, "-c", "8192"))
	second := w.rowWith(t, func(id string) bool { return id != "" && id != first })
	w.stop(t)
	if got = w.configs(t)[before:]; len(got) != 2 || got[1].ID != second || got[1].Context == nil || *got[1].Context != 4096 {
		t.Errorf("%d rows: %+v", len(got), got)
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(w.store), "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(err, files)
	}
	for _, name := range files {
		if text, err := os.ReadFile(name); err != nil || bytes.Contains(text, []byte(secret)) {
			t.Errorf("%s: %v, or it holds the secret", name, err)
		}
	}
	if strings.Contains(w.said(), secret) {
		t.Error("the secret was logged")
	}
}

// TestServerConfigWithAPIKey: /props needs the key, but the command line can be read. The key is in no row.
func TestServerConfigWithAPIKey(t *testing.T) {
	t.Parallel()
	up := llamatest.Start(t, "--api-key", "S3CRETkey")
	w := serve(t, up.URL(), "--gpu", "none")
	id := w.rowWith(t, nonEmpty)
	got := w.configs(t)
	if len(got) != 1 || got[0].ID != id || got[0].Build != nil || got[0].Context != nil || got[0].Flags == nil {
		t.Fatalf("%+v", got)
	}
	if f := *got[0].Flags; !strings.Contains(f, "--api-key") || !strings.Contains(f, "***") || strings.Contains(f, "S3CRET") {
		t.Error(f)
	}
}

// TestServerConfigWithoutProps: unknown columns are null, and nothing is logged as an error. It is not parallel, because
// the upstream is this process, and a llama-server that another test starts is a child of it.
func TestServerConfigWithoutProps(t *testing.T) {
	up := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(up.Close)
	w := serve(t, up.URL, "--gpu", "none", "--log-level", "debug")
	id := w.rowWith(t, nonEmpty)
	w.stop(t)
	got := w.configs(t)
	if len(got) != 1 || got[0].ID != id || got[0].Upstream != up.URL {
		t.Fatalf("%+v", got)
	}
	if c := got[0]; c.Build != nil || c.Model != nil || c.Type != nil || c.Context != nil || c.Slots != nil || c.Flags != nil || c.GPUs != nil || c.Limit != nil {
		text, _ := json.Marshal(c)
		t.Errorf("%s", text)
	}
	if strings.Contains(w.said(), "does not say what it is") {
		t.Error("it was told of as an error")
	}
}
