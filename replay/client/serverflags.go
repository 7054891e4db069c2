package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// ErrNoProgram means that the server's executable could not be found from here: it runs on another
// machine, as another user, or in a container.
var ErrNoProgram = errors.New("the server's program was not found on this machine")

// ErrForeign means that somebody else than root or this user can choose what the server's program does.
var ErrForeign = errors.New("the server's program is not run to read its --help")

const helpTimeout = 10 * time.Second

// ServerFlags are the command line flags of a running llama-server. Builds differ in the flags they
// accept, so advice names only those that this server's own --help lists.
type ServerFlags struct {
	// Known are the flags in --help; the value says whether the flag takes an argument.
	Known map[string]bool
	// Settings are the arguments it was started with, of the flags in publicFlags; a bare flag has "".
	Settings map[string]string
}

// publicFlags are the flags with arguments that are kept, every spelling with its canonical one. Other flags
// may hold secrets.
//
//nolint:gochecknoglobals // a constant table
var publicFlags = map[string]string{
	"-ngl": "--gpu-layers", "--gpu-layers": "--gpu-layers", "--n-gpu-layers": "--gpu-layers",
	"-c": "--ctx-size", "--ctx-size": "--ctx-size", "-b": "--batch-size", "--batch-size": "--batch-size",
	"-ub": "--ubatch-size", "--ubatch-size": "--ubatch-size", "-fa": "--flash-attn", "--flash-attn": "--flash-attn",
	"-np": "--parallel", "--parallel": "--parallel", "-kvu": "--kv-unified", "--kv-unified": "--kv-unified",
	"-ctk": "--cache-type-k", "--cache-type-k": "--cache-type-k", "-ctv": "--cache-type-v", "--cache-type-v": "--cache-type-v",
	"-t": "--threads", "--threads": "--threads", "--threads-http": "--threads-http", "--device": "--device", "-dev": "--device",
}

// ReadServerFlags runs --help of the executable that listens on address (host:port), as this user, with an
// environment of its own, and only where nobody but root and this user can have written it (ErrForeign).
func ReadServerFlags(ctx context.Context, address string) (*ServerFlags, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("server flags: %w", err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, ErrNoProgram
	}
	p, err := listeningProcess(port)
	if err != nil {
		return nil, err
	}
	args, env, err := p.helpCommand(os.Geteuid())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, helpTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.path, args...) //nolint:gosec // helpCommand has checked who can write it
	cmd.Env, cmd.Dir = env, "/"
	out, err := cmd.Output()
	if len(out) == 0 {
		return nil, errors.Join(ErrNoProgram, err)
	}
	return &ServerFlags{Known: parseHelp(string(out)), Settings: Settings(p.args)}, nil
}

// Help are the flags that a program's own --help names, and whether they take a value. The user named the program.
func Help(ctx context.Context, program string) (map[string]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, helpTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, "--help").Output() //nolint:gosec // the user's own command
	if len(out) == 0 {
		return nil, fmt.Errorf("%s --help says nothing: is it a llama-server? (%w)", program, errors.Join(ErrNoProgram, err))
	}
	return parseHelp(string(out)), nil
}

// serverProcess is how a process was started.
type serverProcess struct {
	path   string
	loader []string // arguments of the dynamic loader, in front of the program's own
	args   []string // the program's own arguments
	env    []string
}

var (
	option = regexp.MustCompile(`(?:^|[\s,])(--?[a-zA-Z][a-zA-Z0-9-]*)`)
	value  = regexp.MustCompile(`^ (?:[\[{<]|[A-Z])`)
)

// parseHelp returns the flags that a --help text describes, and whether they take an argument. A line
// starts with all names of one flag; after the last name, one space precedes an argument and several
// precede the description: "--flash-attn [on|off|auto]" takes one, "--kv-unified, -no-kvu" does not.
func parseHelp(help string) map[string]bool {
	out := map[string]bool{}
	for line := range strings.Lines(help) {
		if !strings.HasPrefix(line, "-") {
			continue
		}
		var names []string
		end := 0
		for _, m := range option.FindAllStringSubmatchIndex(line, -1) {
			if len(names) > 0 && strings.Trim(line[end:m[2]], " ,") != "" {
				break // the description has begun
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

// Settings returns the public flags of a command line, each by its canonical name.
func Settings(args []string) map[string]string {
	out := map[string]string{}
	for i, a := range args {
		name, v, joined := strings.Cut(a, "=")
		canonical, ok := publicFlags[name]
		if !ok {
			continue
		}
		if !joined && i+1 < len(args) && (!strings.HasPrefix(args[i+1], "-") || isNumber(args[i+1])) {
			v = args[i+1]
		}
		out[canonical] = v
	}
	return out
}

func isNumber(s string) bool {
	_, err := strconv.Atoi(s)
	return err == nil
}
