// Package serverflags finds out which flags a running llama-server knows, by asking its own program for
// its --help: builds differ, and advice that the server refuses is worse than none.
package serverflags

import (
	"context"
	"errors"
	"net"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"
)

// ErrNotFound means that the server's program could not be found from here: it runs on another machine,
// as another user, or in a container.
var ErrNotFound = errors.New("the server's program was not found on this machine")

const helpTimeout = 10 * time.Second

// Of lists the flags that the server listening on address (host:port) knows, and its --help.
func Of(ctx context.Context, address string) (flags []string, help string, err error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, "", err
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, "", ErrNotFound
	}
	p, err := listener(port)
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, helpTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.program, p.args...) //nolint:gosec // the server's own program
	cmd.Env = p.env
	out, err := cmd.Output()
	if len(out) == 0 {
		return nil, "", errors.Join(ErrNotFound, err)
	}
	return Parse(string(out)), string(out), nil
}

// program is how a process was started, as far as its --help needs it.
type program struct {
	program string
	args    []string
	env     []string
}

var option = regexp.MustCompile(`(?:^|[\s,])(--?[a-zA-Z][a-zA-Z0-9-]*)`)

// Parse finds the flags that a --help describes: on the lines that begin with one, those before the
// description.
func Parse(help string) []string {
	var out []string
	for line := range strings.Lines(help) {
		if !strings.HasPrefix(line, "-") {
			continue
		}
		if i := strings.Index(line, "   "); i > 0 && !strings.HasPrefix(strings.TrimSpace(line[i:]), "-") {
			line = line[:i]
		}
		for _, m := range option.FindAllStringSubmatch(line, -1) {
			out = append(out, m[1])
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Takes reports whether help describes the flag as one with a value: "--flash-attn [on|off|auto]" does,
// "--kv-unified, -no-kvu" does not.
func Takes(help, flag string) bool {
	for line := range strings.Lines(help) {
		if !strings.HasPrefix(line, "-") {
			continue
		}
		i := strings.Index(line, flag)
		if i < 0 || i+len(flag) < len(line) && strings.ContainsRune("abcdefghijklmnopqrstuvwxyz-", rune(line[i+len(flag)])) {
			continue
		}
		rest := strings.TrimLeft(line[i+len(flag):], " ")
		pad := len(line[i+len(flag):]) - len(rest)
		return pad == 1 && rest != "" && strings.ContainsAny(rest[:1], "[{<ABCDEFGHIJKLMNOPQRSTUVWXYZ")
	}
	return false
}
