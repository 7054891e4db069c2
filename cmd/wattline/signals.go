package main

import (
	"context"
	"crypto/tls"
	"os"
	"syscall"
	"time"
)

// successorTimeout bounds the start of the new process of an upgrade.
const successorTimeout = time.Minute

// handleSignals blocks until the service should stop. SIGHUP reloads settings. SIGUSR2 starts a new process with the
// same listeners; once that serves, this one only finishes its connections.
func (s *service) handleSignals(a *app, failed <-chan error, signals <-chan os.Signal) error {
	for {
		select {
		case <-a.ctx.Done():
			if err := s.listeners.Stopping(); err != nil {
				a.log.Warn("cannot notify systemd of the stop", "error", err)
			}
			return nil
		case err := <-failed:
			return err
		case sig := <-signals:
			if sig == syscall.SIGHUP {
				s.reload(a)
				continue
			}
			ctx, cancel := context.WithTimeout(a.ctx, successorTimeout)
			pid, err := s.listeners.Successor(ctx)
			cancel()
			if err == nil {
				a.log.Info("the new process serves; this one finishes its requests", "pid", pid)
				return nil
			}
			a.log.Error("the upgrade failed; this process keeps serving", "error", err)
		}
	}
}

// reload reads the settings again and applies those that can change while requests are in flight: certificates, prices
// and the log level. Other settings need a new process (SIGUSR2). If a setting is wrong, nothing changes.
func (s *service) reload(a *app) {
	next, err := a.parse()
	if err == nil {
		err = next.Serve.checkPrices()
	}
	if err == nil {
		err = s.loadCertificate(&next.Serve)
	}
	if err != nil {
		a.log.Error("settings not reloaded; the old ones stay in effect", "error", err)
		return
	}
	s.rows.prices.Store(next.Serve.prices())
	a.level.Set(next.level())
	a.log.Info("reloaded certificates, prices and log level; other settings need a restart or SIGUSR2")
}

// loadCertificate reads the certificate and key for TLS, if they are configured.
func (s *service) loadCertificate(c *serveCmd) error {
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return usageError("--tls-cert and --tls-key must be given together")
	}
	if c.TLSCert == "" {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
	if err != nil {
		return usageError("--tls-cert and --tls-key cannot be used: %w", err)
	}
	s.cert.Store(&pair)
	return nil
}
