package main

import (
	"context"
	"crypto/tls"
	"os"
	"syscall"
	"time"
)

// successorTime is how long a successor may take until it serves.
const successorTime = time.Minute

// attend waits while others serve: SIGHUP reloads what can change, SIGUSR2 starts a successor with the
// same listeners, after which this process only lets its connections end.
func (s *service) attend(a *app, failed <-chan error, signals <-chan os.Signal) error {
	for {
		select {
		case <-a.ctx.Done():
			if err := s.listeners.Stopping(); err != nil {
				a.log.Warn("systemd cannot be told of the stop", "error", err)
			}
			return nil
		case err := <-failed:
			return err
		case sig := <-signals:
			if sig == syscall.SIGHUP {
				s.reload(a)
				continue
			}
			ctx, cancel := context.WithTimeout(a.ctx, successorTime)
			pid, err := s.listeners.Successor(ctx)
			cancel()
			if err == nil {
				a.log.Info("a successor serves; live requests end here", "pid", pid)
				return nil
			}
			a.log.Error("no successor; this process goes on", "error", err)
		}
	}
}

// reload reads the settings again and applies what can change while requests are live: certificates,
// prices, the log's level. Anything else needs a successor (SIGUSR2). Settings that are wrong change
// nothing.
func (s *service) reload(a *app) {
	next, err := a.parse()
	if err == nil {
		err = next.Serve.checkPrices()
	}
	if err == nil {
		err = s.loadPair(&next.Serve)
	}
	if err != nil {
		a.log.Error("the settings were not reloaded; the old ones stay", "error", err)
		return
	}
	s.rows.prices.Store(next.Serve.prices())
	a.level.Set(next.level())
	a.log.Info("reloaded: certificates, prices, log level; anything else takes a restart or SIGUSR2")
}

// loadPair reads the certificate of a TLS listener.
func (s *service) loadPair(c *serveCmd) error {
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return usageError("--tls-cert and --tls-key belong together")
	}
	if c.TLSCert == "" {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
	if err != nil {
		return usageError("--tls-cert and --tls-key do not make a pair: %w", err)
	}
	s.pair.Store(&pair)
	return nil
}
