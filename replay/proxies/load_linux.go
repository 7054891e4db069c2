package proxies

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// load is one cell's traffic. Times are in nanoseconds of the clock; all of [from, to) is measured.
type load struct {
	to       *unix.SockaddrInet4
	host     string
	prefix   string // of the path
	streams  int    // new connections, spread over ramp, one stream each
	gap      int64  // between a stream's events
	quick    int    // see schedule
	ramp     int64
	settle   int64 // between the ramp's end and the window
	window   int64
	short    bool // instead: streams connections that ask for the next short reply as soon as they have one
	seed     uint64
	onWindow func(from, to int64) // called once, before the first connection
}

// tally counts what the clients saw.
type tally struct {
	latency  []int64 // of each event in the window: read - written
	ttft     []int64 // of each stream: first event - request, less the time for which the schedule withheld it
	rtt      []int64 // of each short request in the window
	events   int     // in all
	requests int     // in all, those that ended well
	failures int
	why      map[string]int
}

func (t *tally) fail(format string, args ...any) {
	t.failures++
	if t.why == nil {
		t.why = map[string]int{}
	}
	t.why[fmt.Sprintf(format, args...)]++
}

// client is one connection of the load.
type client struct {
	fd      int
	request []byte
	plan    schedule
	started int64 // the request's write
	sent    bool
	head    bool // the reply's head has been read
	bodyLen int  // of a short reply; 0: it is chunked
	in      []byte
	chunks  dechunker
	seq     int
	ended   bool // the stream's own end has come: [DONE] and the last chunk
}

// loader drives one load.
type loader struct {
	load
	clock    clock
	poll     *poller
	clients  map[int32]*client
	rng      *rand.Rand
	from, at int64 // of the window; at: when the next connection is due
	end      int64
	opened   int
	open     int
	buf      [64 << 10]byte
	tally    tally
}

// run drives l to its end on a thread of its own.
func (l load) run(ctx context.Context) (*tally, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	sharpTimers()
	p, err := newPoller()
	if err != nil {
		return nil, err
	}
	d := &loader{load: l, clock: newClock(), poll: p, clients: map[int32]*client{}, rng: rand.New(rand.NewPCG(l.seed, 1))}
	defer d.close()
	d.at = d.clock.now() + 1e6
	d.from = d.at + l.ramp + l.settle
	d.end = d.from + l.window
	l.onWindow(d.from, d.end)
	return &d.tally, d.loop(ctx)
}

func (d *loader) close() {
	for _, c := range d.clients {
		_ = unix.Close(c.fd)
	}
	_ = unix.Close(d.poll.fd)
}

// overtime is how long after the window the last stream may end.
const overtime = 60e9

func (d *loader) loop(ctx context.Context) error {
	last := d.end + overtime
	for d.opened < d.streams || d.open > 0 {
		now := d.clock.now()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if now > last {
			for _, c := range d.clients {
				d.tally.fail("not ended in time")
				d.drop(c)
			}
			return nil
		}
		for d.opened < d.streams && d.at <= now {
			d.connect()
		}
		wait := int64(100e6)
		if d.opened < d.streams {
			wait = min(wait, max(0, d.at-now))
		}
		events, err := d.poll.wait(wait)
		if err != nil {
			return err
		}
		for i := range events {
			if c := d.clients[events[i].Fd]; c != nil {
				d.ready(c, events[i].Events)
			}
		}
	}
	return nil
}

// connect opens the next connection.
func (d *loader) connect() {
	d.opened++
	d.at += d.ramp / int64(d.streams)
	fd, err := dial(d.to)
	if err != nil {
		d.tally.fail("connect: %v", err)
		return
	}
	c := &client{fd: fd}
	if d.short {
		c.request = shortRequest(d.host, d.prefix)
	} else {
		// The first event's time within a gap is even over the streams, so that they do not beat together;
		// the number of events lets each stream outlast the window.
		c.plan.gap = d.gap
		c.plan.first = 5e6 + d.rng.Int64N(min(d.gap, 500e6))/1000*1000
		c.plan.quick = d.quick
		c.plan.n = max(0, int((d.end-d.clock.now()-c.plan.first)/d.gap)) + 2 + d.quick
		c.request = streamRequest(d.host, d.prefix, c.plan)
	}
	d.clients[int32(fd)] = c
	d.open++
	if err := d.poll.watch(fd, unix.EPOLLOUT, true); err != nil {
		d.tally.fail("connect: %v", err)
		d.drop(c)
	}
}

func (d *loader) drop(c *client) {
	delete(d.clients, int32(c.fd))
	_ = unix.Close(c.fd)
	d.open--
}

func (d *loader) ready(c *client, events uint32) {
	if !c.sent {
		c.sent = true
		if err := d.poll.watch(c.fd, unix.EPOLLIN, false); err != nil {
			d.tally.fail("connect: %v", err)
			d.drop(c)
			return
		}
		d.ask(c)
		return
	}
	n, err := unix.Read(c.fd, d.buf[:])
	now := d.clock.now()
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
	case err != nil:
		d.tally.fail("read: %v", err)
		d.drop(c)
	case n == 0:
		if !c.ended {
			d.tally.fail("closed early")
		}
		d.drop(c)
	case d.short:
		d.shortBytes(c, d.buf[:n], now)
	default:
		d.streamBytes(c, d.buf[:n], now)
	}
	_ = events
}

// ask writes the request; a socket without anything in it takes a few hundred bytes.
func (d *loader) ask(c *client) {
	c.started = d.clock.now()
	if n, err := unix.Write(c.fd, c.request); err != nil || n != len(c.request) {
		d.tally.fail("write: %v", err)
		d.drop(c)
	}
}

// shortBytes takes what came of an unstreamed reply.
func (d *loader) shortBytes(c *client, p []byte, now int64) {
	if !c.head {
		c.in = append(c.in, p...)
		if !d.readHead(c) {
			return
		}
		if p = nil; c.bodyLen == 0 {
			p, c.in = c.in, nil
		}
	}
	if c.bodyLen > 0 {
		c.in = append(c.in, p...)
	} else if err := c.dechunk(p); err != nil {
		d.tally.fail("%v", err)
		d.drop(c)
		return
	}
	if len(c.in) < c.bodyLen || c.bodyLen == 0 && !c.chunks.done {
		return
	}
	if string(c.in) != shortBody {
		d.tally.fail("a reply with another body")
		d.drop(c)
		return
	}
	d.tally.requests++
	if c.started >= d.from && now < d.end {
		d.tally.rtt = append(d.tally.rtt, now-c.started)
	}
	c.in, c.head, c.chunks = c.in[:0], false, dechunker{}
	if now >= d.end {
		d.drop(c)
		return
	}
	d.ask(c)
}

// readHead takes the reply's head from c.in once it is whole. It reports whether c goes on behind it.
func (d *loader) readHead(c *client) bool {
	end := bytes.Index(c.in, []byte("\r\n\r\n"))
	if end < 0 {
		return false
	}
	head := c.in[:end+2]
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")) {
		line, _, _ := bytes.Cut(head, []byte("\r\n"))
		d.tally.fail("%s", line)
		d.drop(c)
		return false
	}
	if c.bodyLen == 0 && d.short && !bytes.Contains(head, []byte("chunked")) {
		c.bodyLen = contentLength(head)
		if c.bodyLen != len(shortBody) {
			d.tally.fail("Content-Length %s", strconv.Itoa(c.bodyLen))
			d.drop(c)
			return false
		}
	}
	c.head = true
	c.in = append(c.in[:0], c.in[end+4:]...)
	return true
}

// streamBytes takes what came of a stream.
func (d *loader) streamBytes(c *client, p []byte, now int64) {
	if !c.head {
		c.in = append(c.in, p...)
		if !d.readHead(c) {
			return
		}
		p, c.in = c.in, nil
	}
	if err := c.dechunk(p); err != nil {
		d.tally.fail("%v", err)
		d.drop(c)
		return
	}
	for {
		end := bytes.Index(c.in, []byte("\n\n"))
		if end < 0 {
			break
		}
		if !d.sseEvent(c, c.in[:end], now) {
			return
		}
		c.in = append(c.in[:0], c.in[end+2:]...)
	}
	if c.chunks.done {
		d.finish(c)
	}
}

// dechunk adds to c.in what p has within its chunks.
func (c *client) dechunk(p []byte) error {
	for len(p) > 0 {
		n, data, err := c.chunks.next(p)
		if err != nil {
			return err
		}
		p = p[n:]
		c.in = append(c.in, data...)
	}
	return nil
}

// sseEvent checks and dates one event. It reports whether the stream goes on.
func (d *loader) sseEvent(c *client, e []byte, now int64) bool {
	if string(e) == "data: [DONE]" {
		c.ended = true
		return true
	}
	at := bytes.Index(e, []byte(stampMark))
	if at < 0 {
		return true
	}
	e = e[at+len(stampMark):]
	if len(e) < stampDigits+1+seqDigits {
		d.tally.fail("an event is damaged")
		d.drop(c)
		return false
	}
	wrote, ok1 := digits(e[:stampDigits])
	seq, ok2 := digits(e[stampDigits+1:][:seqDigits])
	if !ok1 || !ok2 || int(seq) != c.seq+1 {
		d.tally.fail("events are missing or out of order")
		d.drop(c)
		return false
	}
	c.seq++
	d.tally.events++
	if now >= d.from && now < d.end {
		d.tally.latency = append(d.tally.latency, now-wrote)
	}
	if c.seq == 1 {
		d.tally.ttft = append(d.tally.ttft, now-c.started-c.plan.first)
	}
	return true
}

// finish ends a stream after its last chunk.
func (d *loader) finish(c *client) {
	if !c.ended || c.seq != c.plan.n {
		d.tally.fail("%d of %d events", c.seq, c.plan.n)
	} else {
		d.tally.requests++
	}
	d.drop(c)
}

// dechunker takes chunked framing off; it trusts the sender to frame correctly or not at all.
type dechunker struct {
	left int // bytes of the current chunk, its CRLF included
	line []byte
	done bool
}

// next consumes a prefix of p and returns the data in it.
func (c *dechunker) next(p []byte) (n int, data []byte, err error) {
	if c.done {
		return len(p), nil, errors.New("bytes behind the last chunk")
	}
	if c.left > 0 {
		n = min(c.left, len(p))
		data = p[:min(n, max(0, c.left-2))]
		c.left -= n
		return n, data, nil
	}
	end := bytes.IndexByte(p, '\n')
	if end < 0 {
		c.line = append(c.line, p...)
		return len(p), nil, nil
	}
	c.line = append(c.line, p[:end]...)
	line := string(bytes.TrimSpace(c.line))
	c.line = c.line[:0]
	if c.left == -1 { // the line behind the last chunk
		c.done = true
		return end + 1, nil, nil
	}
	size, err := strconv.ParseInt(line, 16, 32)
	if err != nil {
		return end + 1, nil, fmt.Errorf("chunk size %q", line)
	}
	c.left = int(size) + 2
	if size == 0 {
		c.left = -1
	}
	return end + 1, nil, nil
}
