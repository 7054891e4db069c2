package proxies

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"time"
)

// Started is a wattline process that Compare measures.
type Started struct {
	URL     string
	Suspend func(suspended bool) error // nil where the system cannot suspend a process

	process *os.Process
	cancel  context.CancelFunc
	ended   <-chan struct{}
}

// startTimeout is how long a wattline may take until it prints where it listens.
const startTimeout = 30 * time.Second

// Stop lets the process continue, interrupts it and waits for its end.
func (w *Started) Stop() {
	w.cancel()
	resume(w.process) // it may have been suspended again after cmd.Cancel
	<-w.ended
}

func resume(p *os.Process) {
	if suspend := suspender(p); suspend != nil {
		_ = suspend(false) // an error says that it has ended
	}
}

var listeningLine = regexp.MustCompile(`^wattline \S+: (http://\S+) -> `)

// StartWattline runs "exe serve args" on free ports until Stop or the end of ctx.
func StartWattline(ctx context.Context, exe string, args ...string) (*Started, error) {
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, exe, append([]string{"serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"}, args...)...) //nolint:gosec // ourselves
	cmd.Args[0] = "wattline"
	w := &Started{cancel: cancel}
	cmd.Cancel = func() error {
		resume(cmd.Process)
		return cmd.Process.Signal(os.Interrupt)
	}
	cmd.WaitDelay = 15 * time.Second
	stderr, ended, err := startTied(cmd)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("a wattline cannot be started: %w", err)
	}
	w.process, w.ended, w.Suspend = cmd.Process, ended, suspender(cmd.Process)
	found, last := make(chan string, 1), ""
	go func() { // ends with the process
		defer close(found)
		defer stderr.Close() //nolint:errcheck // read from only
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			last = lines.Text()
			if m := listeningLine.FindStringSubmatch(last); m != nil {
				found <- m[1]
			}
		}
	}()
	select {
	case url, ok := <-found:
		if ok {
			w.URL = url
			return w, nil
		}
		w.Stop()
		return nil, errors.New(last)
	case <-time.After(startTimeout):
		w.Stop()
		return nil, errors.New("the wattline that was started does not print where it listens")
	}
}

// startTied starts a command that is killed when this process ends, however it ends (on Linux): a suspended process
// would otherwise remain for ever. ended is closed when the command has ended.
func startTied(cmd *exec.Cmd) (stderr *os.File, ended <-chan struct{}, err error) {
	stderr, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	cmd.Stderr = w
	dieWithParent(cmd)
	started, done := make(chan error, 1), make(chan struct{})
	go func() { // ends with the process
		defer close(done)
		runtime.LockOSThread() // the kernel takes the thread that forks for the parent
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		_ = w.Close()
		started <- err
		if err == nil {
			_ = cmd.Wait() // it is interrupted
		}
	}()
	if err := <-started; err != nil {
		return nil, nil, errors.Join(err, stderr.Close())
	}
	return stderr, done, nil
}
