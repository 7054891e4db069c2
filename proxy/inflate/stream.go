package inflate

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"

	"wattline/meter"
	"wattline/proxy/rawconn"
)

// Limits of one Stream. A body counts as a bomb above both bombBytes and bombRatio times its compressed size.
const (
	maxBytes    = 1 << 20 // held: pieces that wait, and decoders
	minBacklog  = 128 << 10
	pieceBytes  = 64      // what a waiting piece takes beside its bytes
	joinBytes   = 4 << 10 // smaller pieces with the same stamps become one
	bombBytes   = 16 << 20
	bombRatio   = 100
	outputBytes = 16 << 10
)

// A body that is not Live is read startDelay after its end, or from when startBytes of it wait. A receiver is woken by the
// write before: on a busy machine it would wait for what is inflated at once (proxy/results).
const (
	startDelay = 500 * time.Microsecond
	startBytes = 64 << 10
)

// sharedBytes is what all Streams together may hold beyond maxBytes each, for large windows.
const sharedBytes = 32 << 20

var shared atomic.Int64 //nolint:gochecknoglobals // a limit of the process

// Faults of a body. The libraries' own errors count as damage.
var (
	errCut    = errors.New("inflate: the bytes end early")
	errBomb   = errors.New("inflate: too much output")
	errWindow = errors.New("inflate: the window is too large")
	errMore   = errors.New("inflate: bytes after the end")
	errPanic  = errors.New("inflate: the decoder failed")
)

// Stream inflates one body. Write and Close are called by one goroutine, Wait by any.
type Stream struct {
	// Live, set before the first Write, has each piece shown when it comes. Otherwise a short body is shown at its end.
	Live bool

	codings []coding
	show    func(p []byte, read, written int64)
	ended   func()
	limit   int64 // of waiting bytes

	mu      sync.Mutex // guards what follows
	changed sync.Cond
	waiting []piece
	held    int64 // bytes of the waiting pieces
	started bool  // set by Write and Close
	closed  bool
	whole   bool // all of the body came
	lost    bool // a piece found no room
	stopped bool // nothing is read any more

	done chan struct{} // closed by the goroutine

	// Owned by the goroutine; valid for others after done.
	piece    piece // the one being read
	taken    int64 // compressed bytes
	shown    int64 // inflated ones
	reserved int64 // of shared
	reason   string
}

// piece is a part of the body, and when it was read and written.
type piece struct {
	b             []byte
	pooled        *[]byte // holds b, or nil
	read, written int64
}

// size is what a piece takes while it waits.
func (p *piece) size() int64 {
	if p.pooled != nil {
		return int64(len(*p.pooled)) + pieceBytes
	}
	return int64(len(p.b)) + pieceBytes
}

// copyOf copies p, into a buffer that was used before where p fills half of one: new memory would delay the bytes that follow.
func copyOf(p []byte, read, written int64) piece {
	var room *[]byte
	switch {
	case len(p) >= rawconn.SmallSize/2 && len(p) <= rawconn.SmallSize:
		room = rawconn.SmallBuffer()
	case len(p) >= rawconn.LargeSize/2 && len(p) <= rawconn.LargeSize:
		room = rawconn.LargeBuffer()
	default:
		return piece{append([]byte(nil), p...), nil, read, written}
	}
	return piece{(*room)[:copy(*room, p)], room, read, written}
}

func (p *piece) release() {
	if p.pooled != nil {
		rawconn.PutBuffer(p.pooled)
	}
	*p = piece{}
}

// New makes a Stream for a body whose Content-Encoding, and Transfer-Encoding if that has codings, are in header. It is nil
// where nothing is to be inflated; ok is false where a coding is not known. show is called from the Stream's goroutine. ended,
// which may be nil, is called once all is shown and the Stream is closed; Wait does not wait any more.
func New(header []byte, show func(p []byte, read, written int64), ended func()) (s *Stream, ok bool) {
	codings, ok := parse(header)
	if !ok || len(codings) == 0 {
		return nil, ok
	}
	s = &Stream{codings: codings, show: show, ended: ended, limit: maxBytes, done: make(chan struct{})}
	s.changed.L = &s.mu
	for _, c := range codings {
		s.limit -= c.bytes()
	}
	s.limit = max(s.limit, minBacklog)
	return s, true
}

// Write takes a copy of a piece of the body, with its stamps. It never waits. It may start the goroutine, which Close ends.
func (s *Stream) Write(p []byte, read, written int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped || s.lost || s.closed || len(p) == 0 {
		return
	}
	var last *piece
	if n := len(s.waiting); n > 0 && s.waiting[n-1].read == read && s.waiting[n-1].written == written {
		last = &s.waiting[n-1]
	}
	switch {
	case last != nil && last.pooled != nil && len(last.b)+len(p) <= cap(last.b):
		last.b = append(last.b, p...) // its room is counted
	case last != nil && last.pooled == nil && len(last.b) < joinBytes && s.held+int64(len(p)) <= s.limit:
		last.b = append(last.b, p...)
		s.held += int64(len(p))
	default:
		added := copyOf(p, read, written)
		if s.held+added.size() > s.limit {
			added.release()
			s.lost = true
			return
		}
		s.waiting = append(s.waiting, added)
		s.held += added.size()
	}
	if !s.started && (s.Live || s.held > startBytes) {
		s.started = true
		go s.run()
	}
	s.changed.Signal()
}

// Close says that no more pieces come, and whether the body was whole. Only the first call counts.
func (s *Stream) Close(whole bool) {
	s.mu.Lock()
	again := s.closed
	if !again {
		s.closed, s.whole = true, whole
	}
	s.changed.Signal()
	s.mu.Unlock()
	switch {
	case again || s.started:
	case s.held > 0:
		s.started = true
		time.AfterFunc(startDelay, s.run)
	default:
		s.end()
	}
}

func (s *Stream) end() {
	close(s.done)
	if s.ended != nil {
		s.ended()
	}
}

// Wait waits until all that was written has been shown, after Close. It returns why something was not, a constant of
// package meter; "" if all was, or if a body that was cut short ended where it was cut.
func (s *Stream) Wait() (reason string) {
	<-s.done
	return s.reason
}

// Read gives the decoders the waiting pieces. It waits for one, and ends after Close.
func (s *Stream) Read(p []byte) (int, error) {
	if len(s.piece.b) == 0 {
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.piece.b)
	s.piece.b = s.piece.b[n:]
	s.taken += int64(n)
	return n, nil
}

func (s *Stream) next() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.waiting) == 0 && !s.closed && !s.lost {
		s.changed.Wait()
	}
	if len(s.waiting) == 0 {
		return io.EOF
	}
	s.piece.release()
	s.piece = s.waiting[0]
	s.waiting[0] = piece{}
	s.waiting = s.waiting[1:]
	s.held -= s.piece.size()
	return nil
}

// run is the Stream's goroutine.
func (s *Stream) run() {
	err := s.inflate()
	shared.Add(-s.reserved)
	s.mu.Lock()
	s.piece.release()
	for i := range s.waiting {
		s.waiting[i].release()
	}
	s.stopped, s.waiting = true, nil
	for !s.closed { // whether the body is whole is known then
		s.changed.Wait()
	}
	s.reason = s.why(err)
	s.mu.Unlock()
	s.end()
}

// why names what err means. It is called with the lock held.
func (s *Stream) why(err error) string {
	switch {
	case s.lost && (err == nil || errors.Is(err, errCut)):
		return meter.UnreadBehind
	case err == nil, errors.Is(err, errCut) && !s.whole:
		return ""
	case errors.Is(err, errCut):
		return meter.UnreadCut
	case errors.Is(err, errBomb):
		return meter.UnreadBomb
	case errors.Is(err, errWindow), errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return meter.UnreadWindow
	}
	return meter.UnreadCorrupt
}

// inflate shows what the body holds. It returns nil at its proper end.
func (s *Stream) inflate() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errPanic, p)
		}
	}()
	fault := true
	var decoders []*decoder
	defer func() {
		for _, d := range decoders {
			d.close(fault)
		}
	}()
	var in io.Reader = s
	for i := len(s.codings) - 1; i >= 0; i-- {
		d, err := s.newDecoder(s.codings[i], in)
		decoders = append(decoders, d)
		if err != nil {
			return asCut(err)
		}
		in = &bounded{d.Reader, s, 0}
	}
	out := outputs.Get().(*[outputBytes]byte) //nolint:forcetypeassert // its New
	defer outputs.Put(out)
	for {
		n, err := in.Read(out[:])
		if n > 0 {
			s.shown += int64(n)
			s.show(out[:n], s.piece.read, s.piece.written)
		}
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return asCut(err)
		}
	}
	for _, d := range slices.Backward(decoders) { // the innermost may end before those around it
		if _, err := d.in.Peek(1); err == nil {
			return errMore
		} else if !errors.Is(err, io.EOF) { // the coding around it ends with a checksum that is wrong
			return asCut(err)
		}
	}
	fault = false
	return nil
}

//nolint:gochecknoglobals // a pool is shared by design
var outputs = sync.Pool{New: func() any { return new([outputBytes]byte) }}

// asCut makes one error of the ways in which a decoder says that its input ended.
func asCut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errCut
	}
	return err
}

// bounded ends a decoder's output where it is a bomb's.
type bounded struct {
	r io.Reader
	s *Stream
	n int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.n += int64(n)
	if b.n > bombBytes && b.n > bombRatio*b.s.taken {
		return n, errBomb
	}
	return n, err
}

// reserve takes memory beyond the Stream's own, until it ends.
func (s *Stream) reserve(n int64) bool {
	if shared.Add(n) > sharedBytes {
		shared.Add(-n)
		return false
	}
	s.reserved += n
	return true
}
