package main

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"wattline/proxy/stub"
)

// TestOpenFilesLimit: clients open more connections than the process may have files. A stream that is live
// goes on, those above the limit are told so or closed, the admin listener answers, and afterwards all is as before.
func TestOpenFilesLimit(t *testing.T) {
	t.Parallel()
	url, _ := stubUpstream(t, stub.Config{FirstToken: 10 * time.Millisecond, TokenGap: 10 * time.Millisecond})
	cmd := command(t, "serve", "--upstream", url, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--gpu", "none")
	few := exec.Command("bash", append([]string{"-c", `ulimit -n 192; exec -a wattline "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)...)
	few.Env, few.SysProcAttr = cmd.Env, cmd.SysProcAttr
	w := started(t, few)

	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url+"/completion", strings.NewReader(`{"prompt":"x","stream":true,"n_predict":100000}`))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	stream := bufio.NewReader(resp.Body)
	event := func() {
		t.Helper()
		if _, err := stream.ReadString('\n'); err != nil {
			t.Fatalf("the stream that was live: %v", err)
		}
	}
	event()

	told := 0
	for range 3 {
		var crowd []net.Conn
		for range 300 {
			c, err := net.DialTimeout("tcp", strings.TrimPrefix(w.url, "http://"), patience)
			if err != nil {
				t.Fatal(err)
			}
			crowd = append(crowd, c)
		}
		event()
		if status, body := get(t, "GET", w.admin+"/healthz", ""); status != http.StatusOK {
			t.Errorf("/healthz: %d %s", status, body)
		}
		last := crowd[len(crowd)-1]
		_ = last.SetReadDeadline(time.Now().Add(patience))
		if line, err := bufio.NewReader(last).ReadString('\n'); err == nil {
			told++
			if !strings.HasPrefix(line, "HTTP/1.1 503 ") {
				t.Errorf("one above the limit is told %q", line)
			}
		}
		for _, c := range crowd {
			_ = c.Close()
		}
	}
	t.Logf("of 3 crowds of 300 connections, the last of %d was told", told)
	event()
	for deadline := time.Now().Add(patience); ; <-time.After(10 * time.Millisecond) {
		r := w.postBy(t.Context(), &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, "/completion", map[string]any{"prompt": "x", "n_predict": 1})
		if r.err == nil && r.status == http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("nobody is served afterwards: %d, %v", r.status, r.err)
		}
	}
	leave()
	w.stop(t)
}
