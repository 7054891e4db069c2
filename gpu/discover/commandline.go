package discover

import (
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Server finds the llama-server among the processes that Processes returned, and the flags that it was
// started with, secrets replaced by ***. A router counts, not the servers that it started. 0 where there is
// none, or where several could be meant.
func (h *Host) Server(pids []int) (pid int, flags []string) {
	parents, lines := map[int]int{}, map[int][]string{}
	for _, pid := range pids {
		p, err := h.fs.Proc(pid)
		if err != nil {
			continue
		}
		args, err := p.CmdLine()
		if err != nil {
			continue
		}
		own, ok := serverArgs(args)
		stat, err := p.Stat()
		if ok && err == nil {
			parents[pid], lines[pid] = stat.PPID, own
		}
	}
	found := 0
	for p, parent := range parents {
		if _, below := parents[parent]; !below {
			pid = p
			found++
		}
	}
	if found != 1 {
		return 0, nil
	}
	return pid, Redact(lines[pid])
}

// IsAlive reports whether a process still exists.
func (h *Host) IsAlive(pid int) bool {
	_, err := h.fs.Proc(pid)
	return err == nil
}

// serverArgs returns what llama-server was started with, also through the dynamic loader.
func serverArgs(line []string) (args []string, ok bool) {
	const program = "llama-server"
	if len(line) == 0 {
		return nil, false
	}
	name := filepath.Base(line[0])
	if strings.Contains(name, program) {
		return line[1:], true
	}
	if !strings.HasPrefix(name, "ld-") {
		return nil, false
	}
	at := slices.IndexFunc(line, func(a string) bool { return strings.Contains(filepath.Base(a), program) })
	return line[at+1:], at > 0
}

var (
	secretName = regexp.MustCompile(`(?i)key|token(-|$)|passw|secret|credential|auth|^-hft$`)
	secretText = regexp.MustCompile(`(?i)key|token|passw|secret|credential|auth|bearer`)
)

const hidden = "***"

// Redact returns a command line's arguments without secrets: the value of a flag with a name that tells of a key,
// a token or a password is ***, so is JSON that speaks of one, and a URL loses its user and its query. The
// name of a file that holds a secret stays.
func Redact(args []string) []string {
	out := make([]string, 0, len(args))
	secret := false // the next argument is one
	for _, a := range args {
		name, value, joined := strings.Cut(a, "=")
		flag := strings.HasPrefix(a, "-")
		switch {
		case secret:
			a, secret = hidden, false
		case flag && isSecret(name) && joined:
			a = name + "=" + hidden
		case flag && isSecret(name):
			secret = true
		case flag && joined:
			a = name + "=" + redactValue(value)
		default:
			a = redactValue(a)
		}
		out = append(out, a)
	}
	return out
}

func isSecret(name string) bool {
	return secretName.MatchString(name) && !strings.HasSuffix(name, "-file")
}

func redactValue(v string) string {
	if (strings.HasPrefix(v, "{") || strings.HasPrefix(v, "[")) && secretText.MatchString(v) {
		return hidden
	}
	if !strings.Contains(v, "://") {
		return v
	}
	u, err := url.Parse(v)
	if err != nil {
		return hidden
	}
	if u.User != nil {
		u.User = url.User("hidden")
	}
	if u.RawQuery != "" {
		u.RawQuery = "hidden"
	}
	return u.String()
}
