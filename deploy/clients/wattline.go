package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// wattline is a running serve.
type wattline struct {
	listen, admin string
	cmd           *exec.Cmd
	shapes        *recorder // in front of it; nil: clients ask it directly
}

// url is where clients send their requests.
func (w *wattline) url() string {
	if w.shapes != nil {
		return w.shapes.front.URL
	}
	return w.listen
}

var address = regexp.MustCompile(`http://127\.0\.0\.1:\d+`)

// startWattline starts serve on free ports. Sessions and users are stored as they are.
func startWattline(ctx context.Context, program, upstream, store string) (*wattline, error) {
	w := &wattline{}
	w.cmd = exec.CommandContext(ctx, program, "serve", "--upstream", upstream, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--gpu", "none", "--identify", "plain", "--store", store) //nolint:gosec // the program under test
	pipe, err := w.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := w.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w: build it first (make)", err)
	}
	said := make(chan error, 1)
	go func() { // ends with the process
		lines := bufio.NewScanner(pipe)
		for lines.Scan() {
			switch line := lines.Text(); {
			case w.listen == "" && strings.Contains(line, " -> "):
				w.listen = address.FindString(line)
			case w.admin == "" && strings.HasPrefix(line, "wattline: admin "):
				w.admin = address.FindString(line)
				said <- nil
			}
		}
		said <- errors.New("wattline has ended")
	}()
	select {
	case err = <-said:
	case <-time.After(30 * time.Second):
		err = errors.New("wattline does not say where it listens")
	}
	if err != nil {
		_ = w.cmd.Process.Kill()
		return nil, err
	}
	return w, nil
}

func (w *wattline) stop() {
	if w.shapes != nil {
		w.shapes.front.Close()
	}
	_ = w.cmd.Process.Signal(syscall.SIGTERM)
	_ = w.cmd.Wait()
}
