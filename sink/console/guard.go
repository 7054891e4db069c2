package console

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/valyala/fasthttp"
)

// Guard says who may ask the admin listener.
type Guard struct {
	// Hosts are names that a request may address the listener by, besides addresses and names without a dot:
	// gpu1.example.com, or *.example.com for every name below it.
	Hosts []string
	// Password, of any user name (HTTP basic), is asked for everything but /healthz, /readyz and /metrics; "": none.
	Password string
}

// Check returns an error for hosts that are no names.
func (g Guard) Check() error {
	for _, h := range g.Hosts {
		name := strings.TrimPrefix(h, "*.")
		if name == "" || strings.ContainsAny(name, "*/:@ ") {
			return fmt.Errorf("--admin-hosts: %q is no host name: write gpu1.example.com, or *.example.com for every name below it, without a port", h)
		}
	}
	return nil
}

// minPassword is the least length of a password, in bytes.
const minPassword = 8

// ReadPassword reads the admin password: the first line of a file, else of the systemd credential admin-password, else "".
func ReadPassword(file string) (string, error) {
	name := "--admin-password-file " + file
	if file == "" {
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return "", nil
		}
		file, name = filepath.Join(dir, "admin-password"), "the systemd credential admin-password"
		if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
			return "", nil
		}
	}
	text, err := os.ReadFile(file) //nolint:gosec // the user names it
	if err != nil {
		return "", fmt.Errorf("%s cannot be read: %w", name, err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	line = strings.TrimRight(line, "\r")
	if len(line) < minPassword {
		return "", fmt.Errorf("%s: its first line is the password, and has %d bytes; write at least %d (openssl rand -hex 16 > FILE)", name, len(line), minPassword)
	}
	return line, nil
}

// Reachable reports whether programs of other machines may connect to a listener at this address.
func Reachable(at net.Addr) bool {
	tcp, ok := at.(*net.TCPAddr)
	return ok && !tcp.IP.IsLoopback()
}

// SetGuard says who may ask from now on.
func (s *Server) SetGuard(g Guard) { s.guard.Store(&g) }

// Password is the one that is asked for now; "": none.
func (s *Server) Password() string {
	if g := s.guard.Load(); g != nil {
		return g.Password
	}
	return ""
}

// admit answers a request that may not be made here; ok is false then.
func (s *Server) admit(ctx *fasthttp.RequestCtx) (ok bool) {
	h, guard := &ctx.Response.Header, s.guard.Load()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Content-Security-Policy", contentSecurity)
	h.Set("Referrer-Policy", "no-referrer")
	switch {
	// A page elsewhere may make a browser send requests here, but only under its own host's name (DNS rebinding); an
	// address, a plain local name or a configured one is never that.
	case !localName(string(ctx.Host())) && !guard.names(string(ctx.Host())):
		fail(ctx, 403, fmt.Sprintf("the admin listener answers to addresses, local names and --admin-hosts only; to be asked as %s, name it there", hostOf(string(ctx.Host()))))
	case !ctx.IsGet() && !ctx.IsHead():
		fail(ctx, 405, "only GET")
	case crossSite(ctx):
		fail(ctx, 403, "a page of another site may link here, but not load from here")
	case !open(ctx.Path()) && !guard.passes(ctx.Request.Header.Peek("Authorization")):
		h.Set("WWW-Authenticate", `Basic realm="wattline", charset="UTF-8"`)
		fail(ctx, 401, "a password is needed (--admin-password-file), with any user name")
	default:
		return true
	}
	return false
}

// open paths need no password: probes and Prometheus have none.
func open(path []byte) bool {
	switch string(path) {
	case "/healthz", "/readyz", "/metrics":
		return true
	}
	return false
}

// crossSite reports a request that a browser makes for a page of another site. A person who follows a link is none: the
// other page cannot read the answer.
func crossSite(ctx *fasthttp.RequestCtx) bool {
	h := &ctx.Request.Header
	link := string(h.Peek("Sec-Fetch-Mode")) == "navigate" && string(h.Peek("Sec-Fetch-Dest")) == "document"
	return string(h.Peek("Sec-Fetch-Site")) == "cross-site" && !link
}

// names reports whether a Host header has one of g.Hosts.
func (g Guard) names(hostport string) bool {
	host := strings.TrimSuffix(strings.ToLower(hostOf(hostport)), ".")
	for _, h := range g.Hosts {
		h = strings.TrimSuffix(strings.ToLower(h), ".")
		if below, ok := strings.CutPrefix(h, "*"); ok && strings.HasSuffix(host, below) && len(host) > len(below) || host == h {
			return true
		}
	}
	return false
}

// passes checks an Authorization header in a time that does not depend on the password.
func (g Guard) passes(header []byte) bool {
	if g.Password == "" {
		return true
	}
	scheme, coded, _ := bytes.Cut(header, []byte(" "))
	if !bytes.EqualFold(scheme, []byte("Basic")) {
		return false
	}
	pair, err := base64.StdEncoding.AppendDecode(nil, bytes.TrimSpace(coded))
	if err != nil {
		return false
	}
	_, password, _ := bytes.Cut(pair, []byte(":"))
	got, want := sha256.Sum256(password), sha256.Sum256([]byte(g.Password))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

// localName reports whether a Host names this listener by address, as localhost, or by a name without a
// dot (a container's or a LAN's), which no page on the internet can have.
func localName(hostport string) bool {
	host := hostOf(hostport)
	return host == "" || net.ParseIP(strings.Trim(host, "[]")) != nil || !strings.Contains(host, ".")
}

// hostOf is a Host header without its port.
func hostOf(hostport string) string {
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		return h
	}
	return hostport
}
