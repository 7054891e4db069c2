package inflate

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// coding is a content coding of RFC 9110, 8.4.1, RFC 7932 or RFC 8878.
type coding string

const (
	codingGzip    coding = "gzip"
	codingDeflate coding = "deflate"
	codingBrotli  coding = "br"
	codingZstd    coding = "zstd"
)

// maxCodings bounds the codings of one body, one around the other.
const maxCodings = 4

// parse returns the codings that were applied, in their order; ok is false if one of them is not known.
func parse(header []byte) (codings []coding, ok bool) {
	for name := range strings.SplitSeq(string(header), ",") {
		switch name = strings.ToLower(strings.Trim(name, " \t")); name {
		case "", "identity", "chunked":
			continue
		case "x-gzip":
			name = string(codingGzip)
		case string(codingGzip), string(codingDeflate), string(codingBrotli), string(codingZstd):
		default:
			return nil, false
		}
		codings = append(codings, coding(name))
	}
	return codings, len(codings) <= maxCodings
}

// What a decoder holds, its window included. A larger window of zstd or brotli is taken from what all Streams share.
const (
	smallWindow = 256 << 10
	largeWindow = 16 << 20 // the most of brotli; RFC 9659 allows 8 MiB to zstd
	gzipBytes   = 64 << 10
	brotliBytes = smallWindow + 192<<10
	zstdBytes   = smallWindow + 512<<10
)

func (c coding) bytes() int64 {
	switch c {
	case codingBrotli:
		return brotliBytes
	case codingZstd:
		return zstdBytes
	}
	return gzipBytes
}

// decoder removes one coding.
type decoder struct {
	io.Reader
	in      *bufio.Reader
	release func() // returns the decoder to its pool, if its memory is small
}

//nolint:gochecknoglobals // pools are shared by design
var (
	inputs  = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4<<10) }}
	gzips   sync.Pool // *gzip.Reader
	brotlis sync.Pool // *brotli.Reader
	zstds   sync.Pool // *zstd.Decoder
)

// newDecoder makes a decoder that reads from src. It waits for the first bytes.
func (s *Stream) newDecoder(c coding, src io.Reader) (*decoder, error) {
	in := inputs.Get().(*bufio.Reader) //nolint:forcetypeassert // its New
	in.Reset(src)
	d := &decoder{in: in}
	_, err := in.Peek(1)
	if err == nil {
		switch c {
		case codingGzip:
			err = d.gzip()
		case codingDeflate:
			err = d.deflate()
		case codingBrotli:
			err = d.brotli(s)
		case codingZstd:
			err = d.zstd(s)
		}
	}
	return d, err
}

// close ends the decoder's work. One that met a fault is not used again.
func (d *decoder) close(fault bool) {
	if !fault && d.release != nil {
		d.release()
	}
	d.in.Reset(nil)
	inputs.Put(d.in)
}

func (d *decoder) gzip() (err error) {
	z, ok := gzips.Get().(*gzip.Reader)
	if ok {
		err = z.Reset(d.in)
	} else {
		z, err = gzip.NewReader(d.in)
	}
	d.Reader, d.release = z, func() { gzips.Put(z) }
	return err
}

// deflate is zlib's format by RFC 9110. Some servers send a bare deflate stream; two bytes tell.
func (d *decoder) deflate() (err error) {
	head, err := d.in.Peek(2)
	if err != nil {
		return err
	}
	if head[0]&0x0f == 8 && head[0]>>4 <= 7 && (int(head[0])<<8|int(head[1]))%31 == 0 {
		d.Reader, err = zlib.NewReader(d.in)
		return err
	}
	d.Reader = flate.NewReader(d.in)
	return nil
}

func (d *decoder) zstd(s *Stream) error {
	var h zstd.Header
	var head []byte
	for n := 5; ; n++ { // the header says how long it is; waiting for more bytes could be in vain
		var short error
		if head, short = d.in.Peek(n); short != nil && !errors.Is(short, io.EOF) {
			return short
		} else if err := h.Decode(head); err == nil {
			break
		} else if !errors.Is(err, io.ErrUnexpectedEOF) || short != nil {
			return err
		}
	}
	window := int64(min(h.WindowSize, 1<<40))
	if h.SingleSegment {
		window = int64(min(h.FrameContentSize, 1<<40))
	}
	if window > smallWindow {
		if !s.reserve(window) {
			return errWindow
		}
		z, err := newZstd(d.in, window)
		d.Reader = z
		return err
	}
	z, ok := zstds.Get().(*zstd.Decoder)
	if ok {
		err := z.Reset(d.in)
		d.Reader, d.release = z, func() { zstds.Put(z) }
		return err
	}
	z, err := newZstd(d.in, smallWindow)
	d.Reader, d.release = z, func() { zstds.Put(z) }
	return err
}

func newZstd(in io.Reader, window int64) (*zstd.Decoder, error) {
	return zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(uint64(window)))
}

func (d *decoder) brotli(s *Stream) error {
	first, err := d.in.Peek(1)
	if err != nil {
		return err
	}
	z, ok := brotlis.Get().(*brotli.Reader)
	if !ok {
		z = brotli.NewReader(d.in)
	} else if err := z.Reset(d.in); err != nil {
		return err
	}
	d.Reader = z
	window := brotliWindow(first[0])
	if window > smallWindow && !s.reserve(window) {
		return errWindow
	}
	d.release = func() {
		if s.shown <= smallWindow { // its memory is what it read, up to its window
			brotlis.Put(z)
		}
	}
	return nil
}

// brotliWindow is the window that a brotli stream's first byte announces (RFC 7932, 9.1).
func brotliWindow(b byte) int64 {
	bits := 16
	if b&1 != 0 {
		switch n := int(b >> 1 & 7); {
		case n != 0:
			bits = 17 + n
		case b>>4&7 == 0:
			bits = 17
		default:
			bits = 8 + int(b>>4&7)
		}
	}
	return 1 << bits
}
