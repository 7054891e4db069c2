package llama

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Server is a running llama-server. Its methods may be called from any goroutine.
type Server struct {
	url  string
	pid  int
	log  tail
	proc process

	stop sync.Once
	done chan struct{} // closed by the waiting goroutine when the process has ended
	err  error         // how it ended; read after done
}

const (
	startTimeout = 5 * time.Minute // for loading the model
	healthEvery  = 20 * time.Millisecond
	// termGrace is how long a server may take to end after SIGTERM. An idle one takes some 10 ms; one with
	// live streams stops generating, and waits for their clients to leave.
	termGrace = time.Second
	// portTries bounds the attempts when a port is taken between choosing it and the server's bind.
	portTries = 5
)

// errPortTaken means that the server could not bind the port chosen for it.
var errPortTaken = errors.New("the port was taken")

// Start runs bin on a free port of 127.0.0.1 and returns when GET /health answers 200. args follow --host and
// --port; they name the model (-m, -hf, --models-dir). ctx bounds the start only: the server runs until
// [Server.Stop] or, on Linux, until this process ends in any way. An error has the last lines that the server
// printed.
func Start(ctx context.Context, bin Binary, args ...string) (*Server, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("it was not healthy after %s", startTimeout))
	defer cancel()
	for try := 1; ; try++ {
		s, err := startOnce(ctx, bin, args)
		if err == nil {
			return s, nil
		}
		if !errors.Is(err, errPortTaken) || try == portTries {
			return nil, fmt.Errorf("llama: start %s: %w", bin.Path, err)
		}
	}
}

func startOnce(ctx context.Context, bin Binary, args []string) (*Server, error) {
	port, release, err := reservePort()
	if err != nil {
		return nil, fmt.Errorf("choose a port: %w", err)
	}
	defer release() // only when the server holds it
	s := &Server{url: "http://127.0.0.1:" + strconv.Itoa(port), done: make(chan struct{})}
	if err := s.spawn(bin.Path, append([]string{"--host", "127.0.0.1", "--port", strconv.Itoa(port)}, args...)); err != nil {
		return nil, err
	}
	if err := s.awaitHealth(ctx); err != nil {
		_ = s.Stop() // the first error says more
		if strings.Contains(s.Log(), "couldn't bind") {
			err = errors.Join(errPortTaken, err)
		}
		return nil, fmt.Errorf("%w%s", err, indent(lastLines(s.Log(), 12)))
	}
	return s, nil
}

// spawn starts the process and the goroutine that waits for it. That goroutine keeps its OS thread while the
// process lives: the kernel ties Pdeathsig to the thread that forked, and kills the server when it ends.
func (s *Server) spawn(program string, args []string) error {
	cmd := exec.Command(program, args...) //nolint:gosec,noctx // the program that Find found
	cmd.Stdout, cmd.Stderr = &s.log, &s.log
	cmd.WaitDelay = time.Second // a grandchild may hold the log's pipe open
	ownGroup(cmd, true)
	started := make(chan error, 1)
	go func() { // ends with the process and closes done
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		s.err = cmd.Wait()
		close(s.done)
	}()
	if err := <-started; err != nil {
		return err
	}
	s.proc = process{cmd.Process}
	s.pid = cmd.Process.Pid
	return nil
}

// awaitHealth returns nil once /health answers 200; it answers 503 while the model loads.
func (s *Server) awaitHealth(ctx context.Context) error {
	// No connection is kept: it would occupy one of the server's few HTTP threads.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	tick := time.NewTicker(healthEvery)
	defer tick.Stop()
	for {
		if healthy(ctx, client, s.url) {
			return nil
		}
		select {
		case <-tick.C:
		case <-s.done:
			if s.err != nil {
				return fmt.Errorf("it ended before it was ready: %w", s.err)
			}
			return errors.New("it ended before it was ready")
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func healthy(ctx context.Context, client *http.Client, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/health", nil)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false // not listening yet, or ended
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// URL is the server's base, "http://127.0.0.1:PORT", without a slash at its end.
func (s *Server) URL() string { return s.url }

// PID is the server's process id.
func (s *Server) PID() int { return s.pid }

// Log is the end of the server's output, at least 64 KiB.
func (s *Server) Log() string { return s.log.String() }

// Done is closed when the process has ended, by Stop or by itself.
func (s *Server) Done() <-chan struct{} { return s.done }

// Stop sends SIGTERM, kills the process and its children if it has not ended after 1 s, and returns when it
// has. It fails only if the process cannot be signalled. Further calls wait for the first.
func (s *Server) Stop() error {
	var err error
	s.stop.Do(func() { err = s.end() })
	return err
}

func (s *Server) end() error {
	select {
	case <-s.done:
		return nil
	default:
	}
	if err := s.proc.terminate(); err != nil {
		return fmt.Errorf("llama: stop process %d: %w", s.pid, err)
	}
	timer := time.NewTimer(termGrace)
	defer timer.Stop()
	select {
	case <-s.done:
		return nil
	case <-timer.C:
	}
	if err := s.proc.kill(); err != nil {
		return fmt.Errorf("llama: kill process %d: %w", s.pid, err)
	}
	<-s.done
	return nil
}
