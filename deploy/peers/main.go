// Command peers runs llama.cpp's own tests of llama-server twice, against llama-server itself and through wattline, and
// prints the tests whose outcome differs:
//
//	go run ./deploy/peers -peer llama.cpp/tools/server/tests [-wattline bin/wattline] [-only TEXT] [-runs 1]
//
// The suite is not part of this repository. It starts a server for each test from LLAMA_SERVER_BIN_PATH: this program
// again, which starts llama-server with the small random model in place of the models that the tests would download, and
// wattline in front of it or not. Tests of other models fail both ways and are not counted against wattline. The exit
// status is 1 if a test differs.
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"

	"wattline/deploy/llama"
)

//go:embed plugin.py
var plugin []byte

const howToGet = `the suite is llama.cpp's: name its folder with PEER=.../llama.cpp/tools/server/tests. To get it:
  git clone --depth 1 --filter=blob:none --sparse https://github.com/ggml-org/llama.cpp
  git -C llama.cpp sparse-checkout set tools/server/tests models/templates
  make peers PEER=$PWD/llama.cpp/tools/server/tests`

func main() {
	if way := os.Getenv(envWay); way != "" {
		os.Exit(server(way, os.Args[1:]))
	}
	var c config
	flag.StringVar(&c.peer, "peer", "", "`folder` tools/server/tests of a checkout of llama.cpp")
	flag.StringVar(&c.wattline, "wattline", "bin/wattline", "the `program` under test")
	flag.StringVar(&c.only, "only", "", "run the tests whose name matches this `expression` (pytest -k)")
	flag.IntVar(&c.runs, "runs", 1, "how often each way; a test differs if no outcome of the one way is one of the other")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	differ, err := c.run(ctx, os.Stdout)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(2)
	case differ > 0:
		os.Exit(1)
	}
}

type config struct {
	peer, wattline, only string
	runs                 int
}

// run runs the suite both ways, prints the comparison and returns how many tests differ.
func (c *config) run(ctx context.Context, out io.Writer) (differ int, err error) {
	if _, err := os.Stat(filepath.Join(c.peer, "conftest.py")); c.peer == "" || err != nil {
		return 0, errors.New(howToGet)
	}
	python, err := findPython(ctx)
	if err != nil {
		return 0, err
	}
	bin, err := llama.Find(ctx, os.Stderr)
	if err != nil {
		return 0, err
	}
	model, err := llama.TinyModel(ctx)
	if err != nil {
		return 0, err
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	wattline, err := filepath.Abs(c.wattline)
	if err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "peers-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	if err := os.WriteFile(filepath.Join(dir, "wattline_peers.py"), plugin, 0o600); err != nil {
		return 0, err
	}
	env := append(os.Environ(), "LLAMA_SERVER_BIN_PATH="+self, envLlama+"="+bin.Path, envModel+"="+model, envWattline+"="+wattline,
		"PYTHONPATH="+dir, "PYTHONDONTWRITEBYTECODE=1", "LLAMA_CACHE="+dir)
	all := results{}
	for _, way := range []string{direct, through} {
		for run := range c.runs {
			report := filepath.Join(dir, fmt.Sprintf("%s-%d.xml", way, run))
			if err := c.suite(ctx, python, report, append(env, envWay+"="+way)); err != nil {
				return 0, err
			}
			if err := all.add(way, report); err != nil {
				return 0, err
			}
		}
	}
	return compare(out, all), nil
}

// suite runs pytest once. Tests that fail are not an error.
func (c *config) suite(ctx context.Context, python, report string, env []string) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	args := []string{"-m", "pytest", "-q", "--tb=line", "-p", "wattline_peers", "-p", "no:cacheprovider", "--junitxml", report}
	if c.only != "" {
		args = append(args, "-k", c.only)
	}
	cmd := exec.CommandContext(ctx, python, args...) //nolint:gosec // a Python that was found
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = c.peer, append(env, "PORT="+strconv.Itoa(port)), os.Stderr, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	err = cmd.Run()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok && failed.ExitCode() == 1 && ctx.Err() == nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("pytest: %w", err)
	}
	return nil
}

// findPython returns a Python that has what the suite needs.
func findPython(ctx context.Context) (string, error) {
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		if exec.CommandContext(ctx, python, "-c", "import pytest, requests").Run() == nil { //nolint:gosec // one of the two
			return python, nil
		}
	}
	return "", errors.New("no python3 has the modules pytest and requests: install them (Debian: apt-get install python3-pytest python3-requests)")
}

func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding does not wait
	if err != nil {
		return 0, err
	}
	return ln.Addr().(*net.TCPAddr).Port, ln.Close() //nolint:forcetypeassert // a TCP listener's
}
