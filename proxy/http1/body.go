package http1

// Body follows a message's body through its framing.
type Body struct {
	Chunks  ChunkScanner
	Left    int64 // with Sized: bytes that have not been consumed
	Framing Framing
}

// Done reports whether the body is complete; one that runs until the close never is.
func (b *Body) Done() bool {
	switch b.Framing {
	case Chunked:
		return b.Chunks.Done()
	case Sized:
		return b.Left == 0
	case UntilClose:
		return false
	default:
		return true
	}
}

// Next consumes a prefix of p of n bytes with at most one stretch of payload.
func (b *Body) Next(p []byte) (n int, payload []byte, err error) {
	switch b.Framing {
	case Chunked:
		return b.Chunks.Next(p)
	case Sized:
		p = p[:min(int64(len(p)), b.Left)]
		b.Left -= int64(len(p))
		return len(p), p, nil
	case UntilClose:
		return len(p), p, nil
	default:
		return 0, nil, nil
	}
}

// Take consumes and returns the part of p that belongs to the body, framing included. With an error it
// returns the part before the malformed byte.
func (b *Body) Take(p []byte) ([]byte, error) {
	n := 0
	for n < len(p) && !b.Done() {
		k, _, err := b.Next(p[n:])
		n += k
		if err != nil {
			return p[:n], err
		}
	}
	return p[:n], nil
}
