package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"wattline/meter"
	"wattline/sink/clickhouse/chtest"
)

// TestMain makes the test binary run as wattline for scripts and for tests that need a real process. Most of these wait
// for power samples and rows, so more of them run in parallel than the machine has cores.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", strconv.Itoa(max(4, runtime.GOMAXPROCS(0)))); err != nil {
		panic(err)
	}
	testscript.Main(withEngine{m}, map[string]func(){"wattline": main, "flooded": flooded})
}

// engine is the one ClickHouse of all tests; each has a database of its own in it.
var engine chtest.Shared

// withEngine ends the engine after the tests.
type withEngine struct{ tests *testing.M }

func (w withEngine) Run() int { return engine.Run(w.tests) }

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			env.Setenv("XDG_STATE_HOME", filepath.Join(env.WorkDir, "state"))
			env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, "config"))
			env.Setenv("HOME", env.WorkDir)
			return nil
		},
	})
}

// wattlineProcess is a running `wattline serve`.
type wattlineProcess struct {
	cmd        *exec.Cmd
	url, admin string
	urls       []string // of all routes; url is the first
	store      string
	waited     chan error
	handedOver int // upgrades seen

	mu     sync.Mutex // guards stderr
	stderr bytes.Buffer
}

var (
	routeLine = regexp.MustCompile(`^wattline \S+: (https?://\S+) -> `)
	adminLine = regexp.MustCompile(`^wattline: (?:admin (https?://\S+); rows in|console (https?://\S+) of the rows in) (\S+);`)
)

// command returns a wattline process to be started, with its own home folder.
func command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.Command(exe)
	cmd.Args = append([]string{"wattline"}, args...)
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+dir, "XDG_CONFIG_HOME="+dir, "STATE_DIRECTORY=")
	endWithTest(cmd)
	return cmd
}

// patience bounds every wait of these tests; only a hang takes so long.
const patience = 5 * time.Minute

// serve starts wattline in front of an upstream on free ports and waits until it has printed its addresses.
func serve(t testing.TB, upstream string, args ...string) *wattlineProcess {
	t.Helper()
	return start(t, append([]string{"serve", "--upstream", upstream, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"}, args...)...)
}

// start runs a command that serves and waits until it has printed its addresses.
func start(t testing.TB, args ...string) *wattlineProcess {
	t.Helper()
	return started(t, command(t, args...))
}

// started starts a prepared command and waits until it has printed its addresses.
func started(t testing.TB, cmd *exec.Cmd) *wattlineProcess {
	t.Helper()
	w := &wattlineProcess{waited: make(chan error, 1), cmd: cmd}
	pipe, err := w.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	announced := make(chan struct{})
	go func() { // ends with the process
		sc := bufio.NewScanner(pipe)
		for sc.Scan() {
			w.mu.Lock()
			w.stderr.WriteString(sc.Text() + "\n")
			w.mu.Unlock()
			if m := routeLine.FindStringSubmatch(sc.Text()); m != nil && w.admin == "" { // after an upgrade the new process prints them again
				w.urls = append(w.urls, m[1])
				w.url = w.urls[0]
			}
			if m := adminLine.FindStringSubmatch(sc.Text()); m != nil && w.admin == "" {
				w.admin, w.store = m[1]+m[2], m[3]
				close(announced)
			}
		}
		w.waited <- w.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = w.cmd.Process.Kill()
		if t.Failed() {
			w.mu.Lock()
			t.Logf("wattline's stderr:\n%s", w.stderr.String())
			w.mu.Unlock()
		}
	})
	select {
	case <-announced:
	case err := <-w.waited:
		t.Fatalf("wattline ended before it served: %v\n%s", err, w.stderr.String())
	case <-time.After(patience):
		t.Fatal("wattline did not say where it listens")
	}
	return w
}

// reply is a reply as a client received it.
type reply struct {
	id     string
	status int
	body   []byte
	err    error
	ended  time.Time
}

// post sends a JSON body and reads the whole reply.
func (w *wattlineProcess) post(ctx context.Context, path string, body any) reply {
	return w.postBy(ctx, http.DefaultClient, path, body)
}

func (w *wattlineProcess) postBy(ctx context.Context, client *http.Client, path string, body any) reply {
	text, err := json.Marshal(body)
	if err != nil {
		return reply{err: err}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url+path, bytes.NewReader(text))
	if err != nil {
		return reply{err: err}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Wattline-Echo", "1")
	resp, err := client.Do(req)
	if err != nil {
		return reply{err: err}
	}
	defer resp.Body.Close()
	out := reply{id: resp.Header.Get("X-Wattline-Id"), status: resp.StatusCode}
	out.body, out.err = io.ReadAll(resp.Body)
	out.ended = time.Now()
	return out
}

// row reads a row from the admin API. The API waits half a second for a row that is not stored yet; row asks again.
func (w *wattlineProcess) row(t *testing.T, id string) *meter.Record {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		status, body := w.get(t, "/api/requests/"+id)
		if coming := status == http.StatusNotFound || status == http.StatusServiceUnavailable; coming && time.Now().Before(deadline) {
			<-time.After(20 * time.Millisecond)
			continue
		}
		var rec meter.Record
		if err := json.Unmarshal([]byte(body), &rec); status != http.StatusOK || err != nil || rec.ID != id {
			t.Fatalf("the admin API has no row %s: %d %v: %s", id, status, err, body)
		}
		return &rec
	}
}

// stored reads rows with `wattline requests --json`.
func (w *wattlineProcess) stored(t *testing.T, limit int) map[string]*meter.Record {
	t.Helper()
	cmd := command(t, "requests", "--store", w.store, "--json", "--limit", fmt.Sprint(limit))
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("wattline requests: %v\n%s", err, errs.String())
	}
	rows := map[string]*meter.Record{}
	for line := range strings.Lines(string(out)) {
		var rec meter.Record
		if err := json.Unmarshal([]byte(line), &rec); err != nil {
			t.Fatal(err)
		}
		rows[rec.ID] = &rec
	}
	return rows
}

// lastTimings returns the counts of the last timings object in a reply, streamed or not.
func lastTimings(t *testing.T, body []byte) (promptN, cacheN, predictedN int64) {
	t.Helper()
	i := bytes.LastIndex(body, []byte(`"timings":`))
	if i < 0 {
		t.Fatalf("no timings in %s", body)
	}
	var tm struct {
		CacheN     int64 `json:"cache_n"`
		PromptN    int64 `json:"prompt_n"`
		PredictedN int64 `json:"predicted_n"`
	}
	if err := json.NewDecoder(bytes.NewReader(body[i+len(`"timings":`):])).Decode(&tm); err != nil {
		t.Fatal(err)
	}
	return tm.PromptN, tm.CacheN, tm.PredictedN
}

// children returns the child processes of pid.
func children(t *testing.T, pid int) []int {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	var out []int
	for _, f := range tasks {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has ended
		}
		for s := range strings.FieldsSeq(string(text)) {
			n, err := strconv.Atoi(s)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, n)
		}
	}
	return out
}
