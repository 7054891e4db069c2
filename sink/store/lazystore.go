package store

import (
	"context"
	"errors"
	"time"

	"wattline/sink"
)

// LazyStore is a store whose file another process still writes: a predecessor that hands over and lets its
// last requests end. The first Write waits until the file is free; what is offered meanwhile waits in
// the queue in front of it.
type LazyStore struct {
	cfg    Config
	opened chan *Store // holds the store once it is open; cap 1
	ready  chan struct{}
}

var _ sink.Store = (*LazyStore)(nil)

// latePause is between attempts to open the file.
const latePause = 100 * time.Millisecond

// OpenLazy returns at once. Any failure but ErrInUse shows in Write.
func OpenLazy(cfg Config) *LazyStore {
	return &LazyStore{cfg: cfg, opened: make(chan *Store, 1), ready: make(chan struct{})}
}

// Opened is closed when the store is open; Store then returns it.
func (l *LazyStore) Opened() <-chan struct{} { return l.ready }

// Store returns the open store, nil before Opened.
func (l *LazyStore) Store() *Store {
	select {
	case s := <-l.opened:
		l.opened <- s
		return s
	default:
		return nil
	}
}

// Path is the store's file.
func (l *LazyStore) Path() string { return l.cfg.Path }

// Open opens the store if its file is free (else ErrInUse). Open, Await and Write are for one goroutine
// at a time.
func (l *LazyStore) Open(ctx context.Context) (*Store, error) {
	if s := l.Store(); s != nil {
		return s, nil
	}
	s, err := Open(ctx, l.cfg)
	if err != nil {
		return nil, err
	}
	l.opened <- s
	close(l.ready)
	return s, nil
}

// Await opens the store, waiting for its file until ctx ends.
func (l *LazyStore) Await(ctx context.Context) (*Store, error) {
	for {
		s, err := l.Open(ctx)
		if err == nil || !errors.Is(err, ErrInUse) {
			return s, err
		}
		select {
		case <-time.After(latePause):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// Write waits for the store and writes to it.
func (l *LazyStore) Write(ctx context.Context, rows *sink.Rows) error {
	s, err := l.Await(ctx)
	if err != nil {
		return err
	}
	return s.Write(ctx, rows)
}

// Close closes the store if it was opened.
func (l *LazyStore) Close() error {
	if s := l.Store(); s != nil {
		return s.Close()
	}
	return nil
}
