package proxies

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	_ "net/http/pprof" //nolint:gosec // on the loopback interface, for the bench's own questions
	"net/url"
	"time"

	"wattline/proxy"
)

// Roles are the parts of a run that are wattline's own executable, each in a process of its own.
const (
	RoleUpstream = "upstream" // see Upstream
	RoleRelay    = "relay"    // copies bytes both ways and understands none
	RoleReverse  = "reverse"  // httputil.ReverseProxy
	RoleBare     = "bare"     // wattline's data path without metering
)

// Serve plays a role until ctx ends. upstream is what it stands before; for RoleUpstream, where that listens. It prints where it listens, and where its pprof is, on out.
func Serve(ctx context.Context, role, upstream string, out io.Writer) error {
	if role == RoleUpstream {
		u, err := NewUpstream(upstream)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(out, u.Addr(), "-"); err != nil {
			return err
		}
		return u.Serve(ctx)
	}
	ln, err := listen()
	if err != nil {
		return err
	}
	admin, err := listen()
	if err != nil {
		return err
	}
	go func() { _ = http.Serve(admin, nil) }() //nolint:gosec // ends with the process; asked by the bench only
	if _, err := fmt.Fprintln(out, ln.Addr(), admin.Addr()); err != nil {
		return err
	}
	switch role {
	case RoleRelay:
		return relay(ctx, ln, upstream)
	case RoleReverse:
		return reverse(ctx, ln, upstream)
	case RoleBare:
		return bare(ctx, ln, upstream)
	default:
		return fmt.Errorf("proxies: there is no role %q", role)
	}
}

func listen() (net.Listener, error) {
	return net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding does not wait
}

// relay is the obvious Go relay: two copies a connection. On Linux io.Copy splices.
func relay(ctx context.Context, ln net.Listener, upstream string) error {
	defer context.AfterFunc(ctx, func() { _ = ln.Close() })()
	for {
		client, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		go func() { // ends with both of its connections
			defer client.Close() //nolint:errcheck // nothing was promised
			var d net.Dialer
			up, err := d.DialContext(ctx, "tcp", upstream)
			if err != nil {
				return
			}
			defer up.Close() //nolint:errcheck // nothing was promised
			go func() {
				_, _ = io.Copy(up, client)
				_ = up.Close()
				_ = client.Close()
			}()
			_, _ = io.Copy(client, up)
		}()
	}
}

// reverse is net/http's proxy with what it needs not to be slow by its defaults: as many idle upstream
// connections as nginx is given, and no waiting before a flush.
func reverse(ctx context.Context, ln net.Listener, upstream string) error {
	target := &url.URL{Scheme: "http", Host: upstream}
	transport := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // documented
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 0, idleUpstreams
	transport.DisableCompression = true
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: &httputil.ReverseProxy{
		Transport: transport, FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
	}}
	defer context.AfterFunc(ctx, func() { _ = srv.Close() })()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// bare is wattline with metering off.
func bare(ctx context.Context, ln net.Listener, upstream string) error {
	up, err := proxy.ParseUpstream("http://" + upstream)
	if err != nil {
		return err
	}
	srv, err := proxy.New(proxy.Config{Upstream: up, Unmetered: true})
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = srv.Shutdown(stopping)
	})()
	return srv.Serve(ln)
}
