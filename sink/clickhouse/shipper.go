package clickhouse

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"wattline/sink/store"
)

// Outbox holds the waiting rows; *store.Store is one. NextBatch returns an unconfirmed batch again, with the same rows and
// token.
type Outbox interface {
	NextBatch(ctx context.Context, maxRows int) (*store.Batch, error)
	ConfirmBatch(ctx context.Context, seq int64, missing ...string) error
}

// Config configures a Shipper. Client and Outbox are required.
type Config struct {
	Client *Client
	Outbox Outbox
	// Instance is written into rows without one.
	Instance string
	// MaxRows is the limit of a batch's rows (default 10,000: about 20 MB here, a part of 1 MB in ClickHouse).
	MaxRows int
	// Interval is the pause between two looks at the outbox (default 5 s). ClickHouse prefers few large inserts, and each
	// look causes up to one insert a table.
	Interval time.Duration
	// Log gets a line when shipping starts to fail, at most two a minute while it fails, and one when it works again.
	Log *slog.Logger
}

const (
	defaultMaxRows  = 10_000
	defaultInterval = 5 * time.Second
	firstPause      = 500 * time.Millisecond
	longestPause    = time.Minute
	logInterval     = 30 * time.Second // shortest time between two log lines about the same failure
)

// Shipper moves rows from the outbox to ClickHouse, one batch at a time, each exactly once. It shares only the store with
// the traffic.
type Shipper struct {
	cfg Config
	// The first and the longest pause after a failure. It doubles with each failure.
	firstPause, longestPause time.Duration

	ship  func(ctx context.Context, b *store.Batch) (outcome, error)
	ready func(ctx context.Context) error // reads the schema, before the first batch and after a failure

	mu    sync.Mutex // guards what follows
	stats Stats

	// Owned by Run:
	loggedAt time.Time
	unlogged int // failures since then
}

// NewShipper makes a shipper; Run starts it.
func NewShipper(cfg Config) *Shipper {
	if cfg.MaxRows <= 0 {
		cfg.MaxRows = defaultMaxRows
	}
	if cfg.Interval <= 0 {
		cfg.Interval = defaultInterval
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	s := &Shipper{cfg: cfg, firstPause: firstPause, longestPause: longestPause, stats: Stats{Rows: map[string]uint64{}}}
	if cfg.Client != nil {
		s.deliverTo(cfg.Client, current())
	}
	return s
}

// deliverTo sets where rows are shipped to, and in which schema.
func (s *Shipper) deliverTo(db destination, sc schema) *delivery {
	d := &delivery{db: db, instance: s.cfg.Instance, log: s.cfg.Log, schema: sc, settle: settleTime}
	d.last.at = time.Now()
	s.ship, s.ready = d.deliver, d.look
	return d
}

// Run ships until ctx ends, and then returns nil. It retries every failure, after 0.5 s at first and a minute at most, with
// jitter. It starts no goroutine.
func (s *Shipper) Run(ctx context.Context) error {
	backoff := s.firstPause
	looked := false
	for {
		var err error
		if !looked {
			err = s.ready(ctx)
			looked = err == nil
		}
		if err == nil {
			var batches int
			if batches, err = s.drain(ctx); batches > 0 {
				backoff = s.firstPause
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		pause := s.cfg.Interval
		if err != nil {
			looked = false // the schema may have changed
			pause = backoff/2 + rand.N(backoff/2)
			backoff = min(2*backoff, s.longestPause)
			s.failed(err, pause)
		} else {
			backoff = s.firstPause
			s.recovered()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// Flush ships all waiting rows once, without retries. It must not be called while Run runs.
func (s *Shipper) Flush(ctx context.Context) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	_, err := s.drain(ctx)
	return err
}

// drain ships batches until nothing waits, and returns the number of confirmed ones.
func (s *Shipper) drain(ctx context.Context) (batches int, err error) {
	for {
		b, err := s.cfg.Outbox.NextBatch(ctx, s.cfg.MaxRows)
		if err != nil || b == nil {
			return batches, err
		}
		out, err := s.ship(ctx, b)
		if err != nil {
			return batches, err
		}
		if err := s.cfg.Outbox.ConfirmBatch(ctx, b.Seq, out.missing...); err != nil {
			return batches, err
		}
		batches++
		s.count(func(st *Stats) { st.shipped(b, out) })
	}
}

func (s *Shipper) failed(err error, pause time.Duration) {
	now := time.Now()
	s.count(func(st *Stats) {
		st.Failures++
		st.LastError = err.Error()
	})
	if !s.loggedAt.IsZero() && now.Sub(s.loggedAt) < logInterval {
		s.unlogged++
		return
	}
	s.cfg.Log.Warn("rows cannot be shipped to ClickHouse; they wait in the store, traffic goes on",
		"error", err, "next_try_in", pause.Round(time.Millisecond), "failures_unlogged", s.unlogged)
	s.loggedAt, s.unlogged = now, 0
}

func (s *Shipper) recovered() {
	s.count(func(st *Stats) { st.LastError = "" })
	if s.loggedAt.IsZero() {
		return
	}
	s.cfg.Log.Info("rows are being shipped to ClickHouse again")
	s.loggedAt, s.unlogged = time.Time{}, 0
}

func (s *Shipper) count(f func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.stats)
}

func missingTable(database, table string) error {
	return fmt.Errorf("clickhouse: database %s has no table %s: `wattline ddl --apply` adds it", database, table)
}
