package http1

import "errors"

// Errors of a chunked body's framing.
var (
	errChunkSize    = errors.New("a chunk size is not a hexadecimal number that ends in CRLF")
	errChunkEnd     = errors.New("a chunk does not end in CRLF")
	errChunkTrailer = errors.New("a trailer line is malformed or the trailers are too long")
)

// MaxChunkLine bounds a chunk-size line with its extensions, maxTrailers the whole trailer section.
const (
	MaxChunkLine = 16 << 10
	maxTrailers  = 16 << 10
)

type chunkState uint8

const (
	inSize    chunkState = iota
	inSizePad            // spaces after the size, which some servers write
	inExtension
	inSizeLF
	inData
	inDataCR
	inDataLF
	inTrailer     // at the start of a trailer line
	inTrailerLine // within one
	inTrailerLF
	inFinalLF
	chunksDone
)

// ChunkScanner follows a chunked body that is passed on unchanged: it separates payload from framing and
// finds the end of the body. It refuses bare CR, bare LF, NUL and empty sizes, since the next parser might
// read them differently. The zero value is ready for a new body.
type ChunkScanner struct {
	state   chunkState
	digits  uint8 // of the size; leading zeros count as one
	line    int32 // bytes of the current size line, or of all trailers
	left    int64
	Payload int64 // payload bytes seen so far
}

// SizeKnown reports whether the first chunk's size line is complete.
func (s *ChunkScanner) SizeKnown() bool { return s.state >= inData }

// Done reports whether the body is complete, trailers included.
func (s *ChunkScanner) Done() bool { return s.state == chunksDone }

// Next consumes a prefix of p of n bytes. payload is the part of it that is content; it may be empty while
// framing is consumed. Next never consumes bytes after the end of the body.
func (s *ChunkScanner) Next(p []byte) (n int, payload []byte, err error) {
	for n < len(p) && s.state != chunksDone {
		if s.state == inData {
			take := min(int64(len(p)-n), s.left)
			payload = p[n : n+int(take)]
			s.left -= take
			s.Payload += take
			if s.left == 0 {
				s.state = inDataCR
			}
			return n + int(take), payload, nil
		}
		if err := s.step(p[n]); err != nil {
			return n, nil, err
		}
		n++
	}
	return n, nil, nil
}

// step consumes one byte of framing.
func (s *ChunkScanner) step(c byte) error {
	switch s.state {
	case inSize, inSizePad, inExtension, inSizeLF:
		return s.sizeLine(c)
	case inDataCR:
		if c != '\r' {
			return errChunkEnd
		}
		s.state = inDataLF
	case inDataLF:
		if c != '\n' {
			return errChunkEnd
		}
		s.state, s.digits, s.line = inSize, 0, 0
	default:
		return s.trailer(c)
	}
	return nil
}

func (s *ChunkScanner) sizeLine(c byte) error {
	if s.line++; s.line > MaxChunkLine {
		return errChunkSize
	}
	switch s.state {
	case inSize:
		if v, ok := hexDigit(c); ok {
			if s.left == 0 {
				s.digits = 0
			}
			if s.digits++; s.digits > 15 {
				return errChunkSize
			}
			s.left = s.left<<4 | v
			return nil
		}
		if s.digits == 0 {
			return errChunkSize
		}
		return s.sizeEnd(c)
	case inSizePad:
		return s.sizeEnd(c)
	case inExtension:
		if c == '\r' {
			s.state = inSizeLF
		} else if c < ' ' && c != '\t' {
			return errChunkSize
		}
	case inSizeLF:
		if c != '\n' {
			return errChunkSize
		}
		s.line = 0
		s.state = inData
		if s.left == 0 {
			s.state = inTrailer
		}
	}
	return nil
}

// sizeEnd consumes the byte after the digits of a size.
func (s *ChunkScanner) sizeEnd(c byte) error {
	switch c {
	case ' ', '\t':
		s.state = inSizePad
	case ';':
		s.state = inExtension
	case '\r':
		s.state = inSizeLF
	default:
		return errChunkSize
	}
	return nil
}

func (s *ChunkScanner) trailer(c byte) error {
	if s.line++; s.line > maxTrailers {
		return errChunkTrailer
	}
	switch s.state {
	case inTrailer:
		switch {
		case c == '\r':
			s.state = inFinalLF
		case c <= ' ' || c == 0x7f: // a folded line, or a control character
			return errChunkTrailer
		default:
			s.state = inTrailerLine
		}
	case inTrailerLine:
		if c == '\r' {
			s.state = inTrailerLF
		} else if c < ' ' && c != '\t' {
			return errChunkTrailer
		}
	case inTrailerLF:
		if c != '\n' {
			return errChunkTrailer
		}
		s.state = inTrailer
	case inFinalLF:
		if c != '\n' {
			return errChunkTrailer
		}
		s.state = chunksDone
	}
	return nil
}

func hexDigit(c byte) (int64, bool) {
	switch {
	case c >= '0' && c <= '9':
		return int64(c - '0'), true
	case c >= 'a' && c <= 'f':
		return int64(c-'a') + 10, true
	case c >= 'A' && c <= 'F':
		return int64(c-'A') + 10, true
	}
	return 0, false
}
