package client

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// listeningProcess finds the process that listens on a local port, through /proc.
func listeningProcess(port string) (serverProcess, error) {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return serverProcess{}, err
	}
	inodes := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(table) //nolint:gosec // one of the two above
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			// sl local_address rem_address st ... inode; 0A is LISTEN
			f := strings.Fields(line)
			if len(f) > 9 && f[3] == "0A" && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", n)) {
				inodes["socket:["+f[9]+"]"] = true
			}
		}
	}
	fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil || len(inodes) == 0 {
		return serverProcess{}, ErrNoProgram
	}
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil && inodes[target] {
			return readProcess(filepath.Dir(filepath.Dir(fd)))
		}
	}
	return serverProcess{}, ErrNoProgram
}

// readProcess reads how the process in a /proc folder was started. If the dynamic loader started the
// program, its arguments are returned too, to start it in the same way.
func readProcess(proc string) (serverProcess, error) {
	exe, err := os.Readlink(filepath.Join(proc, "exe"))
	if err != nil {
		return serverProcess{}, ErrNoProgram
	}
	cmdline, err := os.ReadFile(filepath.Join(proc, "cmdline")) //nolint:gosec // in /proc
	if err != nil {
		return serverProcess{}, ErrNoProgram
	}
	environ, err := os.ReadFile(filepath.Join(proc, "environ")) //nolint:gosec // in /proc
	if err != nil {
		return serverProcess{}, ErrNoProgram
	}
	p := serverProcess{path: exe}
	argv := strings.Split(string(bytes.TrimRight(cmdline, "\x00")), "\x00")
	name := filepath.Base(exe)
	p.args = argv[1:]
	if strings.HasPrefix(name, "ld-") {
		for i, a := range argv[1:] {
			p.loader = append(p.loader, a)
			if name = filepath.Base(a); strings.Contains(name, "llama-server") {
				p.args = argv[i+2:]
				break
			}
		}
	}
	if !strings.Contains(name, "llama-server") {
		return serverProcess{}, ErrNoProgram // another program listens there; do not run it
	}
	p.env = strings.Split(string(bytes.TrimRight(environ, "\x00")), "\x00")
	return p, nil
}
