package proxy

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// epollWatcher is one epoll instance for the whole process's clients. Each connection is armed once,
// when it is accepted, with EPOLLRDHUP|EPOLLONESHOT: it fires at most once in its life, bytes that
// arrive do not wake it, and no request costs a system call for it.
type epollWatcher struct {
	fd   int
	file *os.File // fd again, parked in the runtime's poller: waiting takes no thread

	start sync.Once     // run, with the first connection that has a descriptor
	done  chan struct{} // closed when run has ended, or by close if it never began

	mu    sync.Mutex // guards what follows
	slots map[uint64]*watchSlot
	next  uint64
}

func newWatcher() (watcher, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("proxy: epoll: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("proxy: epoll: %w", err)
	}
	w := &epollWatcher{fd: fd, file: os.NewFile(uintptr(fd), "epoll"), done: make(chan struct{}), slots: map[uint64]*watchSlot{}}
	return w, nil
}

// run is started by the first add and ends when close closes the file; close waits for it.
func (w *epollWatcher) run() {
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
			slot := w.slots[uint64(uint32(e.Fd))|uint64(uint32(e.Pad))<<32]
			w.mu.Unlock()
			if slot != nil {
				slot.gone()
			}
		}
	}
}

func (w *epollWatcher) add(c *clientConn, slot *watchSlot) error {
	sc := sysConn(c.Conn)
	if sc == nil {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return fmt.Errorf("proxy: watch: %w", err)
	}
	w.start.Do(func() { go w.run() })
	w.mu.Lock()
	w.next++
	slot.id = w.next
	w.slots[slot.id] = slot
	w.mu.Unlock()
	var aerr error
	err = raw.Control(func(fd uintptr) {
		aerr = unix.EpollCtl(w.fd, unix.EPOLL_CTL_ADD, int(fd), &unix.EpollEvent{
			Events: unix.EPOLLRDHUP | unix.EPOLLONESHOT,
			Fd:     int32(uint32(slot.id)),
			Pad:    int32(uint32(slot.id >> 32)),
		})
	})
	if err = errors.Join(err, aerr); err != nil {
		w.remove(slot)
		return fmt.Errorf("proxy: watch: %w", err)
	}
	return nil
}

// remove forgets a slot; the kernel forgets the descriptor when it is closed.
func (w *epollWatcher) remove(slot *watchSlot) {
	if slot.id == 0 {
		return
	}
	w.mu.Lock()
	delete(w.slots, slot.id)
	w.mu.Unlock()
}

func (w *epollWatcher) close() {
	_ = w.file.Close()
	w.start.Do(func() { close(w.done) })
	<-w.done
}
