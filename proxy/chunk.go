package proxy

import "errors"

// Errors of a chunked body's framing.
var (
	errChunkSize    = errors.New("a chunk size is not a hexadecimal number that ends in CRLF")
	errChunkEnd     = errors.New("a chunk does not end in CRLF")
	errChunkTrailer = errors.New("a trailer line is malformed or the trailers are too long")
)

// maxChunkLine bounds a chunk-size line with its extensions, and the trailer section as a whole.
const (
	maxChunkLine = 4 << 10
	maxTrailers  = 16 << 10
)

type chunkState uint8

const (
	inSize    chunkState = iota
	inSizePad            // spaces behind the size, which some servers write
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

// chunkScanner follows a chunked body as it passes by, byte for byte unchanged: it tells payload from
// framing and where the body ends. Bare CR, bare LF, NUL and empty sizes are refused, as the next
// parser on the way might read them differently.
type chunkScanner struct {
	state   chunkState
	digits  int
	line    int // bytes of the current size line, or of all trailers
	left    int64
	payload int64 // payload bytes seen in all
}

func (s *chunkScanner) done() bool { return s.state == chunksDone }

// next consumes a prefix of p. payload is the part of that prefix which is body content; it may be
// empty while framing is consumed. It never consumes beyond the end of the body.
func (s *chunkScanner) next(p []byte) (n int, payload []byte, err error) {
	for n < len(p) && s.state != chunksDone {
		if s.state == inData {
			take := min(int64(len(p)-n), s.left)
			payload = p[n : n+int(take)]
			s.left -= take
			s.payload += take
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
func (s *chunkScanner) step(c byte) error {
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

func (s *chunkScanner) sizeLine(c byte) error {
	if s.line++; s.line > maxChunkLine {
		return errChunkSize
	}
	switch s.state {
	case inSize:
		if v, ok := hexDigit(c); ok {
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

// sizeEnd consumes what may follow the digits of a size.
func (s *chunkScanner) sizeEnd(c byte) error {
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

func (s *chunkScanner) trailer(c byte) error {
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
