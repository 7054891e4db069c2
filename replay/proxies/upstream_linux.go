package proxies

import (
	"bytes"
	"container/heap"
	"context"
	"errors"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// Upstream answers streamRequests and shortRequests. It is one thread: sockets and schedules are served by
// one epoll; its timeout is the next event's time.
type Upstream struct {
	clock clock
	poll  *poller
	ln    int
	addr  string
	conns map[int32]*served
	due   dueHeap
	in    [64 << 10]byte
}

// served is a connection and the stream that it carries, if one.
type served struct {
	fd    int
	in    []byte // of a request, not yet whole
	out   []byte // what the socket did not take
	plan  schedule
	seq   int
	due   int64
	place int // in the heap; -1: in none
	last  bool
}

// NewUpstream listens at addr, an IPv4 HOST:PORT.
func NewUpstream(addr string) (*Upstream, error) {
	p, err := newPoller()
	if err != nil {
		return nil, err
	}
	u := &Upstream{clock: newClock(), poll: p, conns: map[int32]*served{}}
	if u.ln, u.addr, err = listen4(addr); err != nil {
		return nil, err
	}
	return u, p.watch(u.ln, unix.EPOLLIN, true)
}

// Addr is where it listens.
func (u *Upstream) Addr() string { return u.addr }

// Serve serves on the calling goroutine's thread until ctx ends.
func (u *Upstream) Serve(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	sharpTimers()
	for ctx.Err() == nil {
		wait := int64(100e6) // looks at ctx ten times a second
		if len(u.due) > 0 {
			wait = min(wait, max(0, u.due[0].due-u.clock.now()))
		}
		events, err := u.poll.wait(wait)
		if err != nil {
			return err
		}
		for i := range events {
			u.ready(&events[i])
		}
		for len(u.due) > 0 && u.due[0].due <= u.clock.now() {
			u.event(u.due[0])
		}
	}
	return nil
}

func (u *Upstream) ready(e *unix.EpollEvent) {
	if int(e.Fd) == u.ln {
		u.accept()
		return
	}
	c := u.conns[e.Fd]
	if c == nil {
		return
	}
	if e.Events&unix.EPOLLOUT != 0 && !u.flush(c) {
		return
	}
	if e.Events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		u.receive(c)
	}
}

func (u *Upstream) accept() {
	for {
		fd, _, err := unix.Accept4(u.ln, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		c := &served{fd: fd, place: -1}
		u.conns[int32(fd)] = c
		if u.poll.watch(fd, unix.EPOLLIN, true) != nil {
			u.close(c)
		}
	}
}

func (u *Upstream) close(c *served) {
	if c.place >= 0 {
		heap.Remove(&u.due, c.place)
	}
	delete(u.conns, int32(c.fd))
	_ = unix.Close(c.fd)
}

// receive reads once and answers the requests that are whole.
func (u *Upstream) receive(c *served) {
	n, err := unix.Read(c.fd, u.in[:])
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return
	case err != nil || n == 0:
		u.close(c)
		return
	}
	p := u.in[:n]
	if len(c.in) > 0 {
		c.in = append(c.in, p...)
		p = c.in
	}
	for {
		size, reply, plan, ok := wholeRequest(p)
		if !ok {
			break
		}
		p = p[size:]
		if !u.answer(c, reply, plan) {
			return
		}
	}
	c.in = append(c.in[:0], p...)
}

// wholeRequest measures the request at p's start, and finds what to answer: plan, or where that has no events, reply.
func wholeRequest(p []byte) (size int, reply []byte, plan schedule, ok bool) {
	end := bytes.Index(p, []byte("\r\n\r\n"))
	if end < 0 {
		return 0, nil, plan, false
	}
	head := p[:end]
	size = end + 4
	if bytes.Contains(head, []byte("chunked")) { // JSON has no bare line ends
		last := bytes.Index(p[size:], []byte(lastChunk))
		if last < 0 {
			return 0, nil, plan, false
		}
		size += last + len(lastChunk)
	} else if at := bytes.Index(head, []byte("ontent-")); at >= 0 {
		size += contentLength(head[at-1:])
	}
	if len(p) < size {
		return 0, nil, plan, false
	}
	line, _, _ := bytes.Cut(head, []byte("\r\n"))
	if f := bytes.Fields(line); len(f) == 3 && bytes.HasSuffix(f[1], []byte("/models")) {
		return size, modelsReply, plan, true
	}
	return size, shortReply, parseSchedule(p[end+4 : size]), true
}

// lastChunk ends a chunked body.
const lastChunk = "0\r\n\r\n"

// contentLength finds the field in any case.
func contentLength(head []byte) int {
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		if name, value, ok := bytes.Cut(line, []byte(":")); ok && bytes.EqualFold(name, []byte("Content-Length")) {
			n, err := strconv.Atoi(string(bytes.TrimSpace(value)))
			if err == nil {
				return n
			}
		}
	}
	return 0
}

// answer begins a stream, or gives the reply that needs none. It reports whether the connection lives.
func (u *Upstream) answer(c *served, reply []byte, plan schedule) bool {
	if plan.n == 0 {
		return u.write(c, reply)
	}
	c.plan, c.seq, c.due = plan, 0, u.clock.now()+plan.first
	heap.Push(&u.due, c)
	return u.write(c, []byte(streamHead))
}

// event writes the stream's next event and sets the time of the one after.
func (u *Upstream) event(c *served) {
	msg, at := tokenEvent, stampAt
	if c.seq == 0 {
		msg, at = firstEvent, stampAt+len(firstEvent)-len(tokenEvent)
	}
	c.seq++
	if c.seq >= c.plan.n {
		msg = append(append([]byte(nil), msg...), streamEnd(c.plan)...)
		heap.Remove(&u.due, c.place)
		c.last = true
	} else {
		c.due += c.plan.gap
		if c.seq <= c.plan.quick {
			c.due += quickGap - c.plan.gap
		}
		heap.Fix(&u.due, c.place)
	}
	putDigits(msg[at+stampDigits+1:][:seqDigits], int64(c.seq))
	putDigits(msg[at:][:stampDigits], u.clock.now())
	if u.write(c, msg) && c.last && len(c.out) == 0 {
		u.close(c)
	}
}

// write sends p, or as much as the socket takes now and the rest later.
func (u *Upstream) write(c *served, p []byte) bool {
	if len(c.out) > 0 {
		c.out = append(c.out, p...)
		return true
	}
	n, err := unix.Write(c.fd, p)
	if err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
		u.close(c)
		return false
	}
	if n = max(n, 0); n == len(p) {
		return true
	}
	c.out = append(c.out, p[n:]...)
	return u.poll.watch(c.fd, unix.EPOLLIN|unix.EPOLLOUT, false) == nil
}

// flush sends what waited. It reports whether the connection lives.
func (u *Upstream) flush(c *served) bool {
	p := c.out
	c.out = nil
	if !u.write(c, p) {
		return false
	}
	if len(c.out) > 0 {
		return true
	}
	if c.last {
		u.close(c)
		return false
	}
	return u.poll.watch(c.fd, unix.EPOLLIN, false) == nil
}

// dueHeap orders streams by their next event.
type dueHeap []*served

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due < h[j].due }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

// Push is container/heap's.
func (h *dueHeap) Push(x any) {
	c := x.(*served) //nolint:forcetypeassert // only served are pushed
	c.place = len(*h)
	*h = append(*h, c)
}

// Pop is container/heap's.
func (h *dueHeap) Pop() any {
	old := *h
	c := old[len(old)-1]
	*h = old[:len(old)-1]
	c.place = -1
	return c
}
