package deploy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"wattline/deploy/debian"
)

// Through nginx and through HAProxy, as configured here, clients reach wattline while it is there and the
// server behind it when it is not; tokens pass as they come; what was sent is not sent again.
func TestLoadBalancers(t *testing.T) {
	for _, balancer := range []struct {
		program, config, wrap string
		args                  func(config string) []string
	}{
		{"nginx", "nginx.conf", "daemon off; pid DIR/pid; error_log stderr;\nevents {}\nhttp { access_log off; client_body_temp_path DIR/b; proxy_temp_path DIR/p; fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u; scgi_temp_path DIR/s;\nCONFIG}\n",
			func(c string) []string { return []string{"-c", c, "-e", "stderr"} }},
		{"haproxy", "haproxy.cfg", "CONFIG", func(c string) []string { return []string{"-db", "-f", c} }},
	} {
		t.Run(balancer.program, func(t *testing.T) {
			program := debian.Need(t, balancer.program)
			config, err := os.ReadFile(balancer.config)
			if err != nil {
				t.Fatal(err)
			}
			wattline, server := newBackend(t, "wattline"), newBackend(t, "llama-server")
			front, dir := freeAddr(t), t.TempDir()
			text := strings.NewReplacer(
				"127.0.0.1:11433", wattline.addr, "port 11435", "port "+port(wattline.addr), "127.0.0.1:8081", server.addr,
				"listen 8080", "listen "+front, "bind :8080", "bind "+front).Replace(string(config))
			text = strings.NewReplacer("DIR", dir, "CONFIG", text).Replace(balancer.wrap)
			path := filepath.Join(dir, "config")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			run(t, program, balancer.args(path)...)
			url := "http://" + front
			await(t, url)

			if who := post(t, url); who != "wattline" {
				t.Errorf("with a wattline that is there, %s answers", who)
			}
			streams(t, url)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/die", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			if resp, err := http.DefaultClient.Do(req); err == nil { // nginx answers 502, HAProxy closes
				_ = resp.Body.Close()
			}
			if wattline.died.Load() != 1 || server.died.Load() != 0 {
				t.Errorf("a POST that was sent was sent again: %d and %d times", wattline.died.Load(), server.died.Load())
			}
			if balancer.program == "haproxy" { // right behind a check is the worst moment: the next one is far
				seen := wattline.checks.Load()
				for until := time.Now().Add(5 * time.Minute); wattline.checks.Load() == seen && time.Now().Before(until); {
					<-time.After(time.Millisecond)
				}
			}
			if err := wattline.server.Config.Close(); err != nil { // at once: nothing is waited for
				t.Fatal(err)
			}
			for range 5 {
				if who := post(t, url); who != "llama-server" {
					t.Errorf("with a wattline that is down, %s answers", who)
				}
			}
			streams(t, url)
		})
	}
}

// backend answers with its name; /stream sends a second line only once the first has been seen.
type backend struct {
	server *httptest.Server
	addr   string
	checks atomic.Int64 // of a balancer
	died   atomic.Int64 // POSTs to /die, which are taken and not answered
}

func newBackend(t *testing.T, name string) *backend {
	t.Helper()
	var open atomic.Pointer[chan struct{}]
	b := &backend{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) { b.checks.Add(1) })
	mux.HandleFunc("POST /{rest...}", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) })
	mux.HandleFunc("POST /stream", func(w http.ResponseWriter, r *http.Request) {
		next := make(chan struct{})
		open.Store(&next)
		_, _ = io.WriteString(w, "data: 1\n")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-next:
			_, _ = io.WriteString(w, "data: 2\n")
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("POST /seen", func(http.ResponseWriter, *http.Request) { close(*open.Load()) })
	mux.HandleFunc("POST /die", func(http.ResponseWriter, *http.Request) {
		b.died.Add(1)
		panic(http.ErrAbortHandler) // cuts the connection
	})
	// The port stays reserved when the backend is down, so that no other program's server gets the requests.
	b.addr = freeAddr(t)
	ln, err := listenShared(t.Context(), b.addr)
	if err != nil {
		t.Fatal(err)
	}
	b.server = httptest.NewUnstartedServer(mux)
	_ = b.server.Listener.Close()
	b.server.Listener = ln
	b.server.Start()
	t.Cleanup(b.server.Close)
	return b
}

// streams fails unless the first line of a stream arrives before the second is sent.
func streams(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	resp := do(ctx, t, url+"/stream")
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	if !lines.Scan() || lines.Text() != "data: 1" {
		t.Fatalf("the first line did not come: %q %v", lines.Text(), lines.Err())
	}
	_ = do(ctx, t, url+"/seen").Body.Close()
	if !lines.Scan() || lines.Text() != "data: 2" {
		t.Errorf("the second line did not come: %q %v", lines.Text(), lines.Err())
	}
}

func do(ctx context.Context, t *testing.T, url string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func post(t *testing.T, url string) string {
	t.Helper()
	resp := do(t.Context(), t, url+"/v1/chat/completions")
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Sprint(resp.Status, err)
	}
	return string(text)
}

// await waits until the balancer listens and its checks have found a server.
func await(t *testing.T, url string) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range 2400 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			return
		}
		<-tick.C
	}
	t.Fatal("the balancer does not listen")
}

// run starts a program that ends with the test.
func run(t *testing.T, program string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(context.Background(), program, args...)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
}

func port(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }
