package rawconn

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Watcher notices peers that leave: a FIN or a reset, also after bytes that were not read yet. A half-close
// counts as leaving: TCP cannot tell the two apart, and a client that waits for its reply has no reason to
// close its side.
//
// It is one epoll instance for all connections. Each connection is armed once, when it is added, with
// EPOLLRDHUP|EPOLLONESHOT: it fires at most once, arriving bytes do not wake it, and no request costs a
// system call for it.
type Watcher struct {
	fd   int
	file *os.File // fd again, in the runtime's poller: waiting takes no thread

	start sync.Once     // starts run, with the first connection that has a descriptor
	done  chan struct{} // closed when run has ended, or by Close if it never began

	mu    sync.Mutex // guards what follows
	peers map[uint64]Peer
	next  uint64
}

// NewWatcher makes a Watcher. Close ends it.
func NewWatcher() (*Watcher, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("rawconn: epoll: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("rawconn: epoll: %w", err)
	}
	return &Watcher{fd: fd, file: os.NewFile(uintptr(fd), "epoll"), done: make(chan struct{}), peers: map[uint64]Peer{}}, nil
}

// run is started by the first Add and ends when Close closes the file; Close waits for it.
func (w *Watcher) run() {
	defer close(w.done)
	raw, err := w.file.SyscallConn()
	if err != nil {
		return
	}
	events := make([]unix.EpollEvent, 128)
	for {
		var n int
		err := raw.Read(func(fd uintptr) bool {
			var werr error
			n, werr = unix.EpollWait(int(fd), events, 0)
			return n > 0 || (werr != nil && !errors.Is(werr, unix.EINTR))
		})
		if err != nil {
			return
		}
		for _, e := range events[:max(n, 0)] {
			w.mu.Lock()
			peer := w.peers[uint64(uint32(e.Fd))|uint64(uint32(e.Pad))<<32]
			w.mu.Unlock()
			if peer != nil {
				peer.Left()
			}
		}
	}
}

// Add watches a connection until Remove. The id is 0 if it has no socket and cannot be watched.
func (w *Watcher) Add(c net.Conn, peer Peer) (id uint64, err error) {
	sc := Syscall(c)
	if sc == nil {
		return 0, nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("rawconn: watch: %w", err)
	}
	w.start.Do(func() { go w.run() })
	w.mu.Lock()
	w.next++
	n := w.next
	w.peers[n] = peer
	w.mu.Unlock()
	var aerr error
	err = raw.Control(func(fd uintptr) {
		aerr = unix.EpollCtl(w.fd, unix.EPOLL_CTL_ADD, int(fd), &unix.EpollEvent{
			Events: unix.EPOLLRDHUP | unix.EPOLLONESHOT,
			Fd:     int32(uint32(n)),
			Pad:    int32(uint32(n >> 32)),
		})
	})
	if err = errors.Join(err, aerr); err != nil {
		w.Remove(n)
		return 0, fmt.Errorf("rawconn: watch: %w", err)
	}
	return n, nil
}

// Remove forgets a connection. It must be called before the connection is closed, so that a new one with
// the same descriptor is not taken for it; the kernel drops the descriptor when it is closed.
func (w *Watcher) Remove(id uint64) {
	w.mu.Lock()
	delete(w.peers, id)
	w.mu.Unlock()
}

// Close ends the Watcher; no Left is running when it returns.
func (w *Watcher) Close() {
	_ = w.file.Close()
	w.start.Do(func() { close(w.done) })
	<-w.done
}
