package proxies

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// idleUpstreams is how many idle upstream connections each contender that has such a setting may keep;
// wattline keeps 64.
const idleUpstreams = 64

// contender is a proxy between clients and upstream.
type contender struct {
	name    string
	version string
	// start runs it in front of upstream, with dir for its files; nil: no process, clients go straight.
	start func(ctx context.Context, upstream, dir string) (*process, error)
	// after is how long it works behind a request: wattline's rows are settled when the power samples that
	// cover them are in.
	after  time.Duration
	prefix string // of the path, before /v1
}

// afterRequest is after for proxies that have work behind a request.
const afterRequest = 3500 * time.Millisecond

// contenders lists the proxies that can run here, and why others cannot.
func (c *Config) contenders(ctx context.Context) (list []contender, missing []string) {
	role := func(role string) func(context.Context, string, string) (*process, error) {
		return func(ctx context.Context, upstream, _ string) (*process, error) { return c.role(ctx, role, upstream) }
	}
	list = []contender{{name: Direct}, {name: Relay, start: role(RoleRelay)}, {name: Reverse, start: role(RoleReverse)}}
	if path, version, err := installed(ctx, "nginx", "-v"); err != nil {
		missing = append(missing, "nginx is not installed (Debian: apt-get install nginx-light): no ratios to it")
	} else {
		n := contender{name: Nginx, version: version, start: func(ctx context.Context, upstream, dir string) (*process, error) {
			return startNginx(ctx, path, upstream, dir)
		}}
		list = append(list, n)
		n.name = NginxAgain
		list = append(list, n)
	}
	if path, version, err := installed(ctx, "haproxy", "-v"); err != nil {
		missing = append(missing, "HAProxy is not installed (Debian: apt-get install haproxy)")
	} else {
		list = append(list, contender{name: HAProxy, version: version, start: func(ctx context.Context, upstream, dir string) (*process, error) {
			return startHAProxy(ctx, path, upstream, dir)
		}})
	}
	list = append(list, contender{name: Wattline, start: c.wattline, after: afterRequest}, contender{name: WattlineOff, start: role(RoleBare)})
	for i := range c.Peers {
		list = append(list, c.Peers[i].contender())
	}
	return list, missing
}

// role starts a role of our own executable.
func (c *Config) role(ctx context.Context, role, upstream string) (*process, error) {
	return start(ctx, func(line string, p *process) bool {
		n, err := fmt.Sscan(line, &p.addr, &p.admin)
		if p.admin == "-" {
			p.admin = ""
		}
		return err == nil && n == 2
	}, c.Executable, append(c.RoleArgs, role, upstream)...)
}

var servesAt, adminAt = regexp.MustCompile(`^wattline \S+: http://(\S+) -> `), regexp.MustCompile(`^wattline: admin http://(\S+?); `)

// wattline starts `wattline serve` with a store and a simulated card, so that every row is metered, settled
// and written.
func (c *Config) wattline(ctx context.Context, upstream, dir string) (*process, error) {
	args := []string{
		"serve", "--upstream", "http://" + upstream, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--pprof",
		"--store", filepath.Join(dir, "bench.db"), "--gpu", "sim", "--instance", "bench", "--config", os.DevNull,
	}
	return start(ctx, func(line string, p *process) bool {
		if m := servesAt.FindStringSubmatch(line); m != nil {
			p.addr = m[1]
		}
		if m := adminAt.FindStringSubmatch(line); m != nil {
			p.admin = m[1]
		}
		return p.addr != "" && p.admin != ""
	}, c.Executable, args...)
}

// installed finds a program, also where only root's PATH looks, and asks its version.
func installed(ctx context.Context, name, flag string) (path, version string, err error) {
	path, err = exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin"} {
		if err != nil {
			path, err = exec.LookPath(filepath.Join(dir, name))
		}
	}
	if err != nil {
		return "", "", err
	}
	out, err := exec.CommandContext(ctx, path, flag).CombinedOutput() //nolint:gosec // the program that was found
	if err != nil {
		return "", "", fmt.Errorf("%s %s: %w", path, flag, err)
	}
	version, _, _ = strings.Cut(strings.TrimSpace(string(out)), "\n")
	return path, version, nil
}

const nginxConf = `
daemon off; worker_processes auto; worker_rlimit_nofile 20000; pid %[1]s/nginx.pid; error_log %[1]s/error.log warn;
%[4]s
events { worker_connections 9000; }
http {
  access_log off; client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy;
  fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  tcp_nodelay on; keepalive_requests 1000000; keepalive_timeout 75s;
  upstream llama { server %[2]s; keepalive %[5]d; keepalive_requests 1000000; }
  server {
    listen %[3]s backlog=4096;
    location / {
      proxy_pass http://llama; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
      proxy_buffering off; proxy_read_timeout 1h; proxy_send_timeout 1h;
    }
  }
}
`

func startNginx(ctx context.Context, path, upstream, dir string) (*process, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	user := ""
	if os.Getuid() == 0 {
		user = "user root;"
	}
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, dir, upstream, addr, user, idleUpstreams), 0o600); err != nil {
		return nil, err
	}
	p, err := start(ctx, nil, path, "-p", dir, "-e", filepath.Join(dir, "error.log"), "-c", conf)
	return awaitPort(ctx, p, addr, err)
}

const haproxyConf = `
global
  maxconn %[4]d
  nbthread %[3]d
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  option http-no-delay
  option http-keep-alive
  http-reuse always
frontend in
  bind %[1]s backlog 4096
  default_backend llama
backend llama
  server s %[2]s pool-max-conn 64
`

func startHAProxy(ctx context.Context, path, upstream, dir string) (*process, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(conf, fmt.Appendf(nil, haproxyConf, addr, upstream, threads(), min(9000, (openFiles()-100)/2)), 0o600); err != nil {
		return nil, err
	}
	p, err := start(ctx, nil, path, "-db", "-f", conf)
	return awaitPort(ctx, p, addr, err)
}

// freeAddr is an address that was free a moment ago.
func freeAddr() (string, error) {
	ln, err := listen()
	if err != nil {
		return "", err
	}
	defer ln.Close() //nolint:errcheck // nothing was accepted
	return ln.Addr().String(), nil
}

// awaitPort waits until a program listens.
func awaitPort(ctx context.Context, p *process, addr string, err error) (*process, error) {
	if err != nil {
		return nil, err
	}
	p.addr = addr
	d := net.Dialer{Timeout: time.Second}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 2000 {
		c, err := d.DialContext(ctx, "tcp", addr)
		if err == nil {
			return p, c.Close()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			p.stop()
			return nil, ctx.Err()
		case <-p.ended:
			return nil, fmt.Errorf("proxies: %s ended: %s", filepath.Base(p.cmd.Path), p.stderr.String())
		}
	}
	p.stop()
	return nil, fmt.Errorf("proxies: %s does not listen: %s", filepath.Base(p.cmd.Path), p.stderr.String())
}
