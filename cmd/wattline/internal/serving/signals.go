package serving

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"wattline/sink/console"
)

// successorTimeout bounds the start of the new process of an upgrade.
const successorTimeout = time.Minute

// handleSignals blocks until the service should stop. SIGHUP reloads settings. SIGUSR2 starts a new process with the
// same listeners; once that serves, this one only finishes its connections.
func (s *Service) handleSignals(failed <-chan error, signals <-chan os.Signal) error {
	for {
		select {
		case <-s.host.Ctx.Done():
			if err := s.listeners.Stopping(); err != nil {
				s.host.Log.Warn("cannot notify systemd of the stop", "error", err)
			}
			return nil
		case err := <-failed:
			return err
		case sig := <-signals:
			if sig == syscall.SIGHUP {
				s.reload()
				continue
			}
			ctx, cancel := context.WithTimeout(s.host.Ctx, successorTimeout)
			pid, err := s.listeners.Successor(ctx)
			cancel()
			if err == nil {
				s.successor = pid
				s.host.Log.Info("the new process serves; this one finishes its requests", "pid", pid, "requests", s.live())
				return nil
			}
			s.host.Log.Error("the upgrade failed; this process keeps serving", "error", err)
		}
	}
}

// drainReport is how often an old process says that it still serves requests.
const drainReport = time.Minute

// limitDrain calls abort when requests in flight have taken too long: HandoverTimeout after a handover, StopTimeout after
// SIGTERM, or at a further signal. It returns when ctx ends.
func (s *Service) limitDrain(ctx context.Context, abort func()) {
	defer abort()
	if s.successor != 0 {
		var due <-chan time.Time
		if s.cmd.HandoverTimeout > 0 {
			due = time.After(s.cmd.HandoverTimeout)
		}
		report := time.NewTicker(drainReport)
		defer report.Stop()
		for s.host.Ctx.Err() == nil {
			select {
			case <-s.host.Ctx.Done():
			case <-report.C:
				s.host.Log.Info("this old process still serves requests that began before the upgrade", "requests", s.live(), "new_pid", s.successor)
			case <-due:
				s.host.Log.Warn("--handover-timeout has passed: requests that began before the upgrade are aborted", "requests", s.live())
				return
			case <-ctx.Done():
				return
			}
		}
	}
	if n := s.live(); n > 0 {
		fmt.Fprintf(s.host.Stderr, "wattline: stopping; %d requests in flight may continue for %v (signal again to abort them)\n", n, s.cmd.StopTimeout)
	}
	ctx, cancel := context.WithTimeout(ctx, s.cmd.StopTimeout)
	defer cancel()
	ctx, stopSignals := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stopSignals()
	<-ctx.Done()
}

// yield leaves the devices, the store and the admin listener to the successor, if there is one.
func (s *Service) yield(ctx context.Context) error {
	if s.successor == 0 {
		return nil
	}
	s.energy.Yield()
	err := s.Rows.yield()
	if s.admin != nil {
		err = errors.Join(err, s.admin.Shutdown(ctx))
	}
	return err
}

// reload reads the settings again and applies those that can change while requests are in flight: certificates, prices,
// the admin API's password and hosts, and the log level. Other settings need a new process (SIGUSR2). If a setting is wrong, nothing changes.
func (s *Service) reload() {
	next, level, err := s.host.Reload()
	if err == nil {
		err = next.checkPrices()
	}
	var guard console.Guard
	if err == nil {
		guard, err = next.guard()
	}
	if err == nil && s.admin != nil && s.guarded != (guard.Password != "") {
		err = errors.New("whether the admin API asks for a password is settled at the start: restart, or upgrade with SIGUSR2")
	}
	if err == nil {
		err = s.loadCertificate(next)
	}
	if err != nil {
		s.host.Log.Error("settings not reloaded; the old ones stay in effect", "error", err)
		return
	}
	s.Rows.prices.Store(next.prices())
	if s.admin != nil {
		s.admin.SetGuard(guard)
	}
	s.host.Level.Set(level)
	s.host.Log.Info("reloaded certificates, prices, the admin API's password and hosts, and the log level; other settings need a restart or SIGUSR2")
}

// loadCertificate reads the certificate and key for TLS, if they are configured.
func (s *Service) loadCertificate(c *Flags) error {
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
