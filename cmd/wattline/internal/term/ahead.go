package term

import (
	"errors"
	"io"
	"sync"
	"time"
)

// A query holds a snapshot of the store until its last row was read, and the store's write-ahead log grows meanwhile. So rows
// are not read at the pace of a pager: up to aheadBytes of output wait here, and above that a writer that waits longer than
// aheadTime ends the query.
const (
	aheadBytes = 64 << 20
	aheadTime  = 5 * time.Second
)

var errNobodyReads = errors.New("nobody took the output for 5 s, and more than 64 MiB of it wait: a query that waits keeps the store's write-ahead log; send it to a file, or narrow the query")

// ahead is a buffer in front of a writer, written out by a goroutine of its own.
type ahead struct {
	w io.Writer

	mu      sync.Mutex // guards what follows
	changed sync.Cond
	waiting [][]byte
	size    int
	ended   bool
	err     error
	done    chan struct{} // closed by the goroutine
}

func newAhead(w io.Writer) *ahead {
	a := &ahead{w: w, done: make(chan struct{})}
	a.changed.L = &a.mu
	go a.run() // ends with close
	return a
}

// Write takes a copy of p. It waits only while too much waits.
func (a *ahead) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.size+len(p) > aheadBytes && a.size > 0 {
		late := false
		wake := time.AfterFunc(aheadTime, func() {
			a.mu.Lock()
			defer a.mu.Unlock()
			late = true
			a.changed.Broadcast()
		})
		defer wake.Stop()
		for a.size+len(p) > aheadBytes && a.size > 0 && a.err == nil && !late {
			a.changed.Wait()
		}
		if late && a.err == nil {
			a.err, a.waiting, a.size = errNobodyReads, nil, 0
		}
	}
	if a.err != nil {
		return 0, a.err
	}
	a.waiting = append(a.waiting, append([]byte(nil), p...))
	a.size += len(p)
	a.changed.Broadcast()
	return len(p), nil
}

// close waits until all was written, unless nobody read for too long.
func (a *ahead) close() error {
	a.mu.Lock()
	a.ended = true
	stuck := errors.Is(a.err, errNobodyReads)
	a.changed.Broadcast()
	a.mu.Unlock()
	if !stuck {
		<-a.done
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

func (a *ahead) run() {
	defer close(a.done)
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		for len(a.waiting) == 0 && !a.ended && a.err == nil {
			a.changed.Wait()
		}
		if len(a.waiting) == 0 || a.err != nil {
			return
		}
		p := a.waiting[0]
		a.waiting = a.waiting[1:]
		a.mu.Unlock()
		_, err := a.w.Write(p)
		a.mu.Lock()
		a.size = max(0, a.size-len(p))
		if err != nil && a.err == nil {
			a.err, a.waiting = err, nil
		}
		a.changed.Broadcast()
	}
}
