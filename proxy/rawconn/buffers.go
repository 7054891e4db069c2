package rawconn

import "sync"

// Two sizes of pooled buffers: small for heads and a stream's events, large for uploads and downloads.
const (
	SmallSize = 4 << 10
	LargeSize = 32 << 10
)

//nolint:gochecknoglobals // pools are shared by design
var smallBuffers, largeBuffers = sync.Pool{New: func() any { b := make([]byte, SmallSize); return &b }},
	sync.Pool{New: func() any { b := make([]byte, LargeSize); return &b }}

// SmallBuffer takes a buffer of SmallSize bytes.
func SmallBuffer() *[]byte { return smallBuffers.Get().(*[]byte) } //nolint:forcetypeassert // its New

// LargeBuffer takes a buffer of LargeSize bytes.
func LargeBuffer() *[]byte { return largeBuffers.Get().(*[]byte) } //nolint:forcetypeassert // its New

func pooledBuffer(large bool) *[]byte {
	if large {
		return LargeBuffer()
	}
	return SmallBuffer()
}

// PutBuffer returns a buffer to its pool; one of another size is left to the garbage collector.
func PutBuffer(b *[]byte) {
	switch len(*b) {
	case SmallSize:
		smallBuffers.Put(b)
	case LargeSize:
		largeBuffers.Put(b)
	}
}
