//go:build !linux

package rawconn

import "net"

// Watcher does nothing here: a peer that leaves is noticed at the next write.
type Watcher struct{}

// NewWatcher makes a Watcher.
func NewWatcher() (*Watcher, error) { return &Watcher{}, nil }

// Add does nothing here.
func (*Watcher) Add(net.Conn, Peer) (uint64, error) { return 0, nil }

// Remove does nothing here.
func (*Watcher) Remove(uint64) {}

// Close does nothing here.
func (*Watcher) Close() {}
