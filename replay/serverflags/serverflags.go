// Package serverflags finds out which flags a running llama-server knows, by asking its own program for
// its --help: builds differ, and advice that the server refuses is worse than none.
package serverflags

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// ErrNotFound means that the server's program could not be found from here: it runs on another machine,
// as another user, or in a container.
var ErrNotFound = errors.New("the server's program was not found on this machine")

const helpTimeout = 10 * time.Second

// Server is what a running llama-server's program says of itself.
type Server struct {
	// Flags are those that its --help names, and whether each takes a value.
	Flags map[string]bool
	// Settings are the values with which it was started, of the flags in told; a bare flag has "".
	Settings map[string]string
}

// told are the flags whose values are kept. All others may hold what is nobody's business.
//
//nolint:gochecknoglobals // a constant table: every spelling, and the one that is kept
var told = map[string]string{
	"-ngl": "--gpu-layers", "--gpu-layers": "--gpu-layers", "--n-gpu-layers": "--gpu-layers",
	"-c": "--ctx-size", "--ctx-size": "--ctx-size", "-b": "--batch-size", "--batch-size": "--batch-size",
	"-ub": "--ubatch-size", "--ubatch-size": "--ubatch-size", "-fa": "--flash-attn", "--flash-attn": "--flash-attn",
	"-np": "--parallel", "--parallel": "--parallel", "-kvu": "--kv-unified", "--kv-unified": "--kv-unified",
	"-ctk": "--cache-type-k", "--cache-type-k": "--cache-type-k", "-ctv": "--cache-type-v", "--cache-type-v": "--cache-type-v",
	"-t": "--threads", "--threads": "--threads", "--threads-http": "--threads-http", "--device": "--device", "-dev": "--device",
}

// Of asks the program of the server that listens on address (host:port).
func Of(ctx context.Context, address string) (*Server, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("serverflags: %w", err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, ErrNotFound
	}
	p, err := listener(port)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, helpTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.path, append(p.before, "--help")...) //nolint:gosec // the server's own program
	cmd.Env = p.env
	out, err := cmd.Output()
	if len(out) == 0 {
		return nil, errors.Join(ErrNotFound, err)
	}
	return &Server{Flags: Parse(string(out)), Settings: settings(p.args)}, nil
}

// program is how a process was started.
type program struct {
	path   string
	before []string // arguments that stand before the program's own: the dynamic loader's
	args   []string // the program's own
	env    []string
}

var (
	option = regexp.MustCompile(`(?:^|[\s,])(--?[a-zA-Z][a-zA-Z0-9-]*)`)
	value  = regexp.MustCompile(`^ (?:[\[{<]|[A-Z])`)
)

// Parse finds the flags that a --help describes, and whether they take a value: a line begins with all
// names of one flag; what follows the last name after one space is its value, what follows after more is
// the description. "--flash-attn [on|off|auto]" takes one, "--kv-unified, -no-kvu" does not.
func Parse(help string) map[string]bool {
	out := map[string]bool{}
	for line := range strings.Lines(help) {
		if !strings.HasPrefix(line, "-") {
			continue
		}
		var names []string
		end := 0
		for _, m := range option.FindAllStringSubmatchIndex(line, -1) {
			if len(names) > 0 && strings.Trim(line[end:m[2]], " ,") != "" {
				break // in the description
			}
			names, end = append(names, line[m[2]:m[3]]), m[3]
		}
		takes := value.MatchString(strings.TrimRight(line[end:], "\n"))
		for _, n := range names {
			out[n] = takes
		}
	}
	return out
}

// settings reads a command line.
func settings(args []string) map[string]string {
	out := map[string]string{}
	for i, a := range args {
		name, v, joined := strings.Cut(a, "=")
		kept, ok := told[name]
		if !ok {
			continue
		}
		if !joined && i+1 < len(args) && (!strings.HasPrefix(args[i+1], "-") || isNumber(args[i+1])) {
			v = args[i+1]
		}
		out[kept] = v
	}
	return out
}

func isNumber(s string) bool {
	_, err := strconv.Atoi(s)
	return err == nil
}
