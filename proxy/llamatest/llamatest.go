// Package llamatest gives a test a real llama-server with the small random model: found or fetched by
// package llama, on a free port, ended when the test ends.
//
//	srv := llamatest.Start(t, "--threads-http", "256")
//	resp, err := http.Get(srv.URL() + "/v1/models")
//	if !llamatest.Slots(t, srv)[0].IsProcessing { … }
//
// A start takes about 0.1 s. Tests that do not mind each other's traffic may share one server through a [Shared]
// variable. Without a server a test fails, and says what to do; it is never skipped.
package llamatest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"wattline/deploy/llama"
)

// defaultArgs come before the caller's, which override them: four slots of 2,048 tokens, no web page. One thread:
// several meet at a barrier for each matrix, and with more processes than cores the small model then generates
// two tokens a second instead of thousands.
var defaultArgs = []string{"--no-webui", "-np", "4", "-c", "8192", "--threads", "1"}

// findTimeout bounds finding the program and the model, and a fetch over a slow line.
const findTimeout = 5 * time.Minute

// Start runs a llama-server with the small model for one test and stops it at the test's end. args are
// llama-server's; they override `--no-webui -np 4 -c 8192 --threads 1`. If the test fails, the server's last
// lines are logged.
func Start(t testing.TB, args ...string) *llama.Server {
	t.Helper()
	return stopped(t, func(bin llama.Binary, model string) (*llama.Server, error) {
		return llama.Start(t.Context(), bin, slices.Concat([]string{"-m", model}, defaultArgs, args)...)
	})
}

// StartRouter is Start for a llama-server in router mode, which has loaded no model. It serves the small model as "tiny".
func StartRouter(t testing.TB, args ...string) *llama.Server {
	t.Helper()
	return stopped(t, func(bin llama.Binary, model string) (*llama.Server, error) {
		folder := t.TempDir()
		if err := os.Link(model, filepath.Join(folder, "tiny.gguf")); err != nil {
			text, err := os.ReadFile(model) //nolint:gosec // the cache's
			if err = errors.Join(err, os.WriteFile(filepath.Join(folder, "tiny.gguf"), text, 0o600)); err != nil {
				return nil, err
			}
		}
		return llama.Start(t.Context(), bin, slices.Concat([]string{"--models-dir", folder}, defaultArgs, args)...)
	})
}

// stopped starts a server and stops it at the test's end.
func stopped(t testing.TB, start func(bin llama.Binary, model string) (*llama.Server, error)) *llama.Server {
	t.Helper()
	srv, err := found(t.Context(), start)
	if err != nil {
		t.Fatalf("this test needs a real llama-server: %v", err)
	}
	t.Cleanup(func() {
		if err := srv.Stop(); err != nil {
			t.Errorf("llamatest: %v", err)
		}
		logIfFailed(t, srv)
	})
	return srv
}

// found calls start with a llama-server and the small model.
func found(ctx context.Context, start func(bin llama.Binary, model string) (*llama.Server, error)) (*llama.Server, error) {
	find, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	bin, err := llama.Find(find, nil)
	if err != nil {
		return nil, err
	}
	model, err := llama.TinyModel(ctx)
	if err != nil {
		return nil, err
	}
	return start(bin, model)
}

// logIfFailed logs the server's last lines if the test failed.
func logIfFailed(t testing.TB, srv *llama.Server) {
	if !t.Failed() {
		return
	}
	const lines = 40
	log := strings.SplitAfter(srv.Log(), "\n")
	t.Logf("llama-server %d, last lines:\n%s", srv.PID(), strings.Join(log[max(0, len(log)-lines):], ""))
}

// Shared is one llama-server for all tests of a test binary, started by the first that needs it. Main stops it:
//
//	var upstream = llamatest.Shared{Args: []string{"--metrics"}}
//
//	func TestMain(m *testing.M) { os.Exit(upstream.Main(m)) }
type Shared struct {
	// Args are llama-server's, as for [Start]. Set before the first use.
	Args []string

	mu  sync.Mutex // guards srv and err; held during the start, so that others wait for it
	srv *llama.Server
	err error
}

// Server returns the shared server, started if need be. The test fails if there can be none, or if it
// has ended.
func (s *Shared) Server(t testing.TB) *llama.Server {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.srv == nil && s.err == nil {
		// Not the test's context: the server outlives the test that asked first.
		s.srv, s.err = found(context.Background(), func(bin llama.Binary, model string) (*llama.Server, error) {
			return llama.Start(context.Background(), bin, slices.Concat([]string{"-m", model}, defaultArgs, s.Args)...)
		})
	}
	if s.err != nil {
		t.Fatalf("this test needs a real llama-server: %v", s.err)
	}
	select {
	case <-s.srv.Done():
		t.Fatalf("the shared llama-server has ended; its log:\n%s", s.srv.Log())
	default:
	}
	t.Cleanup(func() { logIfFailed(t, s.srv) })
	return s.srv
}

// Main runs the tests, stops the server and returns the exit status for os.Exit.
func (s *Shared) Main(m *testing.M) int {
	code := m.Run()
	if err := s.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "llamatest:", err)
		return max(code, 1)
	}
	return code
}

// Stop ends the server if one was started. [Shared.Server] fails afterwards.
func (s *Shared) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = errors.New("the shared llama-server was stopped")
	}
	if s.srv == nil {
		return nil
	}
	return s.srv.Stop()
}
