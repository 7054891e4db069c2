package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sync/atomic"

	"wattline/meter"
	"wattline/sink"
	"wattline/sink/clickhouse"
	"wattline/sink/store"
	"wattline/sink/telemetry"
)

// rows is the way of finished rows: priced, queued, stored, and from the store shipped and shown.
type rows struct {
	queue     *sink.Queue
	store     *store.LazyStore
	reader    *store.Reader
	retention *retention
	identify  meter.Identify
	instance  string
	telemetry *telemetry.Telemetry
	prices    atomic.Pointer[prices]
}

// prices are what a row is priced with; SIGHUP may change them.
type prices struct{ perKWh, gco2PerKWh meter.Int }

func (c *serveCmd) prices() *prices {
	return &prices{scaled(c.PricePerKWh, 1e6), scaled(c.GCO2PerKWh, 1e3)}
}

// openRows opens the store. Where a predecessor still writes it, rows wait in the queue until that one
// has ended. A store of earlier runs on a disk that is full or read-only now is no reason to refuse the
// traffic: it is said, and rows wait in the queue until the disk can be written. Any other store that
// cannot be opened is an error at once, in particular one that never was.
func openRows(a *app, c *serveCmd, ship *clickhouse.Target, predecessor bool) (r *rows, err error) {
	r = &rows{instance: c.Instance}
	if r.instance == "" {
		if r.instance, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("this host has no name: give one with --instance: %w", err)
		}
	}
	r.prices.Store(c.prices())
	path := a.storePath(c.Store)
	r.store = store.OpenLazy(store.Config{Path: path, SetAside: true, Log: a.log})
	if !predecessor {
		if _, err = r.store.Open(a.ctx); err != nil && !mayPass(path, err) {
			return nil, err
		} else if err != nil {
			a.log.Error("rows cannot be stored; traffic goes on, and the newest rows wait until they can", "error", err)
		}
	}
	if r.reader, err = store.OpenReader(a.ctx, path); err != nil {
		return nil, errors.Join(err, r.store.Close())
	}
	key, err := secret(filepath.Join(filepath.Dir(path), "identity.key"))
	if err != nil {
		return nil, errors.Join(err, r.reader.Close(), r.store.Close())
	}
	r.identify = meter.Identify{Mode: c.Identify, Key: key, SessionHeaders: c.SessionHeaders}
	if r.retention, err = startRetention(a, r, &c.keepFlags, ship); err != nil {
		return nil, errors.Join(err, r.reader.Close(), r.store.Close())
	}
	if r.telemetry, err = c.telemetryFlags.open(a, r.instance); err != nil {
		return nil, errors.Join(err, r.retention.stop(), r.reader.Close(), r.store.Close())
	}
	r.queue = sink.New(sink.Config{Store: r.store, Observer: r.telemetry, Log: a.log})
	return r, nil
}

// mayPass is whether a store that cannot be opened is there and may be usable again later.
func mayPass(path string, err error) bool {
	e, ok := errors.AsType[*store.Error](err)
	if !ok || !e.Retryable() {
		return false
	}
	info, statErr := os.Stat(path)
	return statErr == nil && info.Mode().IsRegular() && info.Size() > 0
}

// scaled turns a configured number into a column's integer; unset stays null.
func scaled(v *float64, unit float64) meter.Int {
	if v == nil {
		return meter.Int{}
	}
	return meter.Some(int64(math.Round(*v * unit)))
}

// secret reads the key under which identities are hashed, making one for a new installation.
func secret(path string) ([]byte, error) {
	key, err := os.ReadFile(path) //nolint:gosec // beside the store
	if err == nil && len(key) >= 32 {
		return key, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the key for hashed identities cannot be read: %w", err)
	}
	key = make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("no randomness for the key of hashed identities: %w", err)
	}
	if err := os.WriteFile(path, key, 0o600); err != nil {
		return nil, fmt.Errorf("the key for hashed identities cannot be written: %w", err)
	}
	return key, nil
}

// price writes what a row is priced with.
func (r *rows) price(rec *meter.Record) {
	p := r.prices.Load()
	rec.PricePerKWhMicro, rec.GCO2PerKWhMilli = p.perKWh, p.gco2PerKWh
}

// maxGaps bounds the gaps that are kept of one request.
const maxGaps = 1 << 16

// gapsPerRequest is how many of a stream's gaps are kept. A row of itl_gaps with fewer than its request's
// output_events - 1 was cut there.
func (f *keepFlags) gapsPerRequest() int {
	if f.KeepGaps <= 0 {
		return 0
	}
	return maxGaps
}

// keepGaps hands a request's raw gaps over, if it has any.
func (r *rows) keepGaps(rec *meter.Record) {
	if len(rec.GapsUs) == 0 {
		return
	}
	r.queue.OfferGaps(&sink.Gaps{ID: rec.ID, StartedAt: rec.StartedAt, Instance: rec.Instance, GapsUs: rec.GapsUs})
	rec.GapsUs = nil
}

// close writes what waits and closes the store.
func (r *rows) close(ctx context.Context) error {
	err := r.queue.Stop(ctx)
	r.telemetry.Close(ctx)
	return errors.Join(err, r.retention.stop(), r.reader.Close(), r.store.Close())
}
