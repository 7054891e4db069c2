package store

import (
	"context"
	"errors"
	"sync"
	"time"

	"wattline/sink"
)

// LazyStore is a store that may still be kept by another process, which is about to hand it over. The first Write waits
// until the file is free; meanwhile rows wait in the queue.
type LazyStore struct {
	cfg    Config
	opened chan *Store // holds the store once it is open; cap 1
	ready  chan struct{}

	mu      sync.Mutex // guards yielded, and is held while the file is opened
	yielded bool
}

var _ sink.Store = (*LazyStore)(nil)

// latePause is the time between attempts to open the file.
const latePause = 100 * time.Millisecond

// OpenLazy does not open the file yet. Write returns any failure to open it except ErrInUse.
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

// Open opens the store if its file is free (else ErrInUse).
func (l *LazyStore) Open(ctx context.Context) (*Store, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.Store(); s != nil {
		return s, nil
	}
	s, err := Open(ctx, l.cfg)
	if l.yielded && (errors.Is(err, ErrInUse) || errors.Is(err, ErrNewer)) {
		s, err = openBeside(ctx, l.cfg)
	}
	if err != nil {
		return nil, err
	}
	if l.yielded {
		if err := s.Yield(); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	l.opened <- s
	close(l.ready)
	return s, nil
}

// Yield lets a successor keep the store; see Store.Yield. A store that is not open yet is opened beside its keeper.
func (l *LazyStore) Yield() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.yielded = true
	if s := l.Store(); s != nil {
		return s.Yield()
	}
	return nil
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
