package serving

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
	"wattline/sink/autopsy"
	"wattline/sink/console"
	"wattline/sink/store"
	"wattline/sink/telemetry"
)

// Rows prices finished rows and queues them for the store, which retention ships and Reader shows.
type Rows struct {
	Queue     *sink.Queue
	Reader    *store.Reader
	Telemetry *telemetry.Telemetry

	store     *store.LazyStore
	retention *retention
	identify  meter.Identify
	instance  string
	live      *console.Live
	autopsy   *autopsy.Autopsy // nil: lost caches are not explained
	prices    atomic.Pointer[prices]
}

// prices are stored in each row. SIGHUP may change them.
type prices struct{ perKWh, gco2PerKWh meter.Int }

func (c *Flags) prices() *prices {
	return &prices{scaledInt(c.PricePerKWh, 1e6), scaledInt(c.GCO2PerKWh, 1e3)}
}

// openRows opens the store. During an upgrade rows wait in the queue until the old process yields the store. If the disk
// of an existing store is full or read-only, openRows logs it, and rows wait in the queue until the disk can be written. Any
// other failure to open the store is an error.
func openRows(h *Host, c *Flags, predecessor bool) (r *Rows, err error) {
	r = &Rows{instance: c.Instance}
	if r.instance == "" {
		if r.instance, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("the host name is not known: give a name with --instance: %w", err)
		}
	}
	r.prices.Store(c.prices())
	path := h.Store
	r.store = store.OpenLazy(store.Config{Path: path, SetAside: true, Successor: predecessor, Log: h.Log})
	_, err = r.store.Open(h.Ctx)
	switch kept := predecessor && errors.Is(err, store.ErrInUse); {
	case err != nil && !kept && !mayRecover(path, err):
		return nil, err
	case err != nil && !kept:
		h.Log.Error("rows cannot be stored; requests are served, and the newest rows wait until the store can be written", "error", err)
	}
	if r.Reader, err = store.OpenReader(h.Ctx, path); err != nil {
		return nil, errors.Join(err, r.store.Close())
	}
	key, err := identityKey(filepath.Join(filepath.Dir(path), "identity.key"))
	if err != nil {
		return nil, errors.Join(err, r.Reader.Close(), r.store.Close())
	}
	r.identify.Mode, r.identify.Key = c.Identify, key
	if err := r.identify.Name(c.SessionHeaders, c.Agents); err != nil {
		return nil, errors.Join(usageError("%w", err), r.Reader.Close(), r.store.Close())
	}
	if r.retention, err = startRetention(h, r, &c.RetentionFlags); err != nil {
		return nil, errors.Join(err, r.Reader.Close(), r.store.Close())
	}
	if r.Telemetry, err = c.TelemetryFlags.open(h, r.instance); err != nil {
		return nil, errors.Join(err, r.retention.stop(), r.Reader.Close(), r.store.Close())
	}
	r.live = console.NewLive()
	r.Queue = sink.New(sink.Config{Store: r.store, Observer: r.live.Observer(r.Telemetry), Log: h.Log})
	r.autopsy = openAutopsy(h, c, r, key)
	return r, nil
}

// mayRecover reports whether a store that cannot be opened exists and may become usable later.
func mayRecover(path string, err error) bool {
	e, ok := errors.AsType[*store.Error](err)
	if !ok || !e.Retryable() {
		return false
	}
	info, statErr := os.Stat(path)
	return statErr == nil && info.Mode().IsRegular() && info.Size() > 0
}

// scaledInt converts a setting to a column's integer; nil becomes null.
func scaledInt(v *float64, unit float64) meter.Int {
	if v == nil {
		return meter.Int{}
	}
	return meter.Some(int64(math.Round(*v * unit)))
}

// identityKey reads the key for hashed identities, and creates it for a new installation.
func identityKey(path string) ([]byte, error) {
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

// price sets the prices of a row.
func (r *Rows) price(rec *meter.Record) {
	p := r.prices.Load()
	rec.PricePerKWhMicro, rec.GCO2PerKWhMilli = p.perKWh, p.gco2PerKWh
}

// gapsPerRequest is how many gaps of a stream are stored.
func (f *RetentionFlags) gapsPerRequest() int {
	if f.KeepGaps <= 0 {
		return 0
	}
	return sink.MaxGaps
}

// offerGaps moves a request's raw gaps, if it has any, from its row to a row of their own.
func (r *Rows) offerGaps(rec *meter.Record) {
	if len(rec.GapsUs) == 0 {
		return
	}
	r.Queue.OfferGaps(&sink.Gaps{ID: rec.ID, StartedAt: rec.StartedAt, Instance: rec.Instance, Model: rec.Model, GapsUs: rec.GapsUs})
	rec.GapsUs = nil
}

// yield lets a successor keep the store. Rows that come later are still written.
func (r *Rows) yield() error {
	return errors.Join(r.retention.stop(), r.store.Yield())
}

// close writes the waiting rows and closes the store.
func (r *Rows) close(ctx context.Context) error {
	err := r.Queue.Stop(ctx)
	r.Telemetry.Close(ctx)
	return errors.Join(err, r.retention.stop(), r.Reader.Close(), r.store.Close())
}

// offerConfig queues a row of table configs, and tells the live page.
func (r *Rows) offerConfig(c *sink.ServerConfig) bool {
	r.live.Config(c)
	return r.Queue.OfferConfig(c)
}
