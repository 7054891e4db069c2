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

// Config of a server. Model may be empty when Args name one (-m, -hf, --models-dir).
type Config struct {
	Model string
	// Args are passed on as they are, after --host, --port and -m. They should name neither of the first
	// two: the port is chosen here.
	Args []string
	// Log receives what the server prints, as it prints it. Default: only the end is kept, for errors.
	Log io.Writer
	// StartTimeout bounds loading the model. Default: 5 minutes.
	StartTimeout time.Duration
}

// Server is a running llama-server. Its methods may be called from any goroutine.
type Server struct {
	bin  Binary
	url  string
	pid  int
	log  *tail
	proc process

	stop sync.Once
	done chan struct{} // closed by the waiting goroutine when the process has ended
	err  error         // how it ended; read after done
}

const (
	defaultStartTimeout = 5 * time.Minute
	healthEvery         = 20 * time.Millisecond
	// termGrace is how long a server may take to end after it was asked to. An idle one takes some 10 ms;
	// one with live streams stops generating, yet waits for their clients to leave.
	termGrace = time.Second
	// portTries bounds the retries when a port is taken between choosing it and the server's bind.
	portTries = 5
)

// errPortTaken means that the server could not bind the port chosen for it.
var errPortTaken = errors.New("the port was taken")

// Start runs bin on a free port of 127.0.0.1 and returns when GET /health answers 200. ctx bounds the
// start only: a server that has started runs until [Server.Stop], or until this process ends, however
// it ends (on Linux). An error carries the last lines that the server printed.
func Start(ctx context.Context, bin Binary, cfg Config) (*Server, error) {
	timeout := cfg.StartTimeout
	if timeout <= 0 {
		timeout = defaultStartTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout,
		fmt.Errorf("it was not healthy after %s; a large model may need a longer StartTimeout", timeout))
	defer cancel()
	for try := 1; ; try++ {
		s, err := startOnce(ctx, bin, cfg)
		if err == nil {
			return s, nil
		}
		if !errors.Is(err, errPortTaken) || try == portTries {
			return nil, fmt.Errorf("llama: start %s: %w", bin.Path, err)
		}
	}
}

func startOnce(ctx context.Context, bin Binary, cfg Config) (*Server, error) {
	port, release, err := reservePort()
	if err != nil {
		return nil, fmt.Errorf("choose a port: %w", err)
	}
	defer release() // only when the server holds it
	s := &Server{
		bin:  bin,
		url:  "http://127.0.0.1:" + strconv.Itoa(port),
		log:  newTail(cfg.Log),
		done: make(chan struct{}),
	}
	args := []string{"--host", "127.0.0.1", "--port", strconv.Itoa(port)}
	if cfg.Model != "" {
		args = append(args, "-m", cfg.Model)
	}
	if err := s.spawn(append(args, cfg.Args...)); err != nil {
		return nil, err
	}
	if err := s.awaitHealth(ctx); err != nil {
		_ = s.Stop() // the error that brought us here says more
		said := s.log.String()
		if strings.Contains(said, "couldn't bind") {
			err = errors.Join(errPortTaken, err)
		}
		return nil, fmt.Errorf("%w%s", err, indent(lastLines(said, 12)))
	}
	return s, nil
}

// spawn starts the process and the goroutine that waits for it. That goroutine keeps its OS thread as
// long as the process lives: the kernel ties "end with your parent" to the thread that forked, so a
// thread that the Go runtime retired would take the server with it.
func (s *Server) spawn(args []string) error {
	cmd := exec.Command(s.bin.Path, args...) //nolint:gosec,noctx // the program that Find found
	cmd.Stdout = s.log
	cmd.Stderr = s.log
	cmd.WaitDelay = time.Second // a grandchild may hold the log's pipe open
	ownGroup(cmd)
	dieWithParent(cmd)
	started := make(chan error, 1)
	go func() { // ends with the process; done tells
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
	// No connection is kept: the server's few HTTP threads belong to whoever comes next.
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
		return false // not listening yet, or ended: the caller looks
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// URL is the server's base, "http://127.0.0.1:PORT", without a slash at its end.
func (s *Server) URL() string { return s.url }

// PID is the server's process id.
func (s *Server) PID() int { return s.pid }

// Version is the program's version, as [Binary] has it.
func (s *Server) Version() string { return s.bin.Version }

// Binary is the program that runs.
func (s *Server) Binary() Binary { return s.bin }

// Log is the end of what the server has printed, some 64 KiB.
func (s *Server) Log() string { return s.log.String() }

// Done is closed when the process has ended, by Stop or on its own account.
func (s *Server) Done() <-chan struct{} { return s.done }

// Stop asks the process to end, kills it and what it started if it has not after 1 s, and returns when it
// is gone. It fails only if the process cannot be signalled. Further calls wait for the first.
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
