//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wattline/proxy/llamatest"
)

// TestTop: a real llama-server with one slot under two requests, a simulated GPU. Lines, JSON lines and a terminal's screen
// show who holds the slot, who waits behind it, and whose the watts are; q ends it and leaves the terminal as it was.
func TestTop(t *testing.T) {
	t.Parallel()
	up := llamatest.Start(t, "-np", "1", "-c", "65536")
	w := serve(t, up.URL(), "--gpu", "sim")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for _, agent := range []string{"first", "second"} {
		wg.Go(func() { // again and again, until the test is over
			for ctx.Err() == nil {
				w.postAs(ctx, agent, "/v1/chat/completions", map[string]any{
					"messages": []any{map[string]any{"role": "user", "content": "ba ce di fo gu"}}, "stream": true, "max_tokens": 50000, "ignore_eos": true,
				})
			}
		})
	}

	type view struct {
		PowerMw    *int64 `json:"power_mw"`
		IdleMw     int64  `json:"idle_mw"`
		ResidualMw int64  `json:"residual_mw"`
		EndedMw    int64  `json:"ended_mw"`
		Simulated  bool
		Slots      int64
		Running    []struct {
			Agent, Phase  string
			Slot          *int64
			ContextTokens int64  `json:"context_tokens"`
			OutputEvents  int64  `json:"output_events"`
			ActiveMw      *int64 `json:"active_mw"`
		}
		Queue []struct {
			Agent    string
			WaitedUs int64 `json:"waited_us"`
			Behind   []struct{ Agent string }
		}
	}
	good := func(v *view) bool {
		return v.PowerMw != nil && v.Simulated && v.Slots == 1 && len(v.Running) == 1 && len(v.Queue) == 1 && v.Running[0].Phase == "decode" && v.Running[0].Slot != nil &&
			v.Running[0].ContextTokens > v.Running[0].OutputEvents && v.Running[0].ActiveMw != nil && *v.Running[0].ActiveMw > 0
	}
	lines := command(t, "top", "--admin", w.admin, "--json")
	pipe, err := lines.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := lines.Start(); err != nil {
		t.Fatal(err)
	}
	tooLong := time.AfterFunc(2*time.Minute, func() { _ = lines.Process.Kill() })
	defer tooLong.Stop()
	var v view
	found := false
	for sc := bufio.NewScanner(pipe); !found && sc.Scan(); {
		v = view{}
		if err := json.Unmarshal(sc.Bytes(), &v); err != nil {
			t.Fatalf("%v in %s", err, sc.Text())
		}
		found = good(&v)
	}
	if !found {
		t.Fatalf("no line shows it all; the last is %+v", v)
	}
	sum := v.IdleMw + v.ResidualMw + v.EndedMw + *v.Running[0].ActiveMw
	if q := v.Queue[0]; sum != *v.PowerMw || len(q.Behind) != 1 || q.Behind[0].Agent != v.Running[0].Agent || q.Agent == v.Running[0].Agent || q.WaitedUs <= 0 {
		t.Errorf("%+v: the parts are %d mW", v, sum)
	}
	// The prompt is at least the words, and at most some template beside them: the context is not the server's whole room.
	if n := v.Running[0].ContextTokens - v.Running[0].OutputEvents; n < 5 || n > 100 {
		t.Errorf("a prompt of %d tokens", n)
	}
	_ = lines.Process.Signal(os.Interrupt)
	if err := lines.Wait(); err != nil {
		t.Errorf("after Ctrl-C: %v", err)
	}

	out, _ := output(t, exitOK, "top", "--admin", w.admin, "--count", "1")
	if strings.Count(out, "\n") != 1 || !strings.Contains(out, " of 1 slots") || strings.Contains(out, "\x1b") {
		t.Errorf("%q", out)
	}
	screen := onTerminal(t, "q", "W SIMULATED", "top", "--admin", strings.TrimPrefix(w.admin, "http://"))
	for _, want := range []string{"\x1b[?1049h", "1 of 1 slots", "queue", "first", "second", "\x1b[?1049l"} {
		if !strings.Contains(screen, want) {
			t.Errorf("no %q on the terminal:\n%q", want, screen)
		}
	}
}

// postAs is post by a client of that name.
func (w *wattlineProcess) postAs(ctx context.Context, agent, path string, body any) {
	text, _ := json.Marshal(body)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url+path, bytes.NewReader(text))
	if err != nil {
		return
	}
	req.Header.Set("User-Agent", agent)
	if resp, err := http.DefaultClient.Do(req); err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
}

// onTerminal runs wattline on a terminal of its own, types keys once the screen has text in it, and returns all that was
// written. It must end well, and leave the terminal's settings as they were.
func onTerminal(t *testing.T, keys, text string, args ...string) string {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close() //nolint:errcheck // a test's
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 30, Col: 120})
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(filepath.Join("/dev/pts", fmt.Sprint(n)), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	before, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	cmd := command(t, args...)
	cmd.Stdin, cmd.Stdout = slave, slave
	var errs bytes.Buffer
	cmd.Stderr = &errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	var all []byte
	typed := false
	buf := make([]byte, 4096)
	kill := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	go func() { // ends with the process; then the terminal has no other end
		ended <- cmd.Wait()
		_ = slave.Close()
	}()
	for {
		n, err := master.Read(buf)
		all = append(all, buf[:n]...)
		if !typed && bytes.Contains(all, []byte(text)) {
			typed = true
			after, err := unix.IoctlGetTermios(int(master.Fd()), unix.TCGETS)
			if err != nil || after.Lflag&unix.ICANON != 0 {
				t.Errorf("the terminal is not raw: %v", err)
			}
			if _, err := io.WriteString(master, keys); err != nil {
				t.Fatal(err)
			}
		}
		if err != nil {
			if !errors.Is(err, syscall.EIO) && !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			break
		}
	}
	if err := <-ended; err != nil || errs.Len() > 0 {
		t.Errorf("%v: %s", err, errs.String())
	}
	after, err := os.OpenFile(filepath.Join("/dev/pts", fmt.Sprint(n)), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer after.Close() //nolint:errcheck // a test's
	if now, err := unix.IoctlGetTermios(int(after.Fd()), unix.TCGETS); err != nil || *now != *before {
		t.Errorf("the terminal is left as %+v, was %+v (%v)", now, before, err)
	}
	return string(all)
}
