package proxy

import "sync"

// Two sizes serve every need: a stream's events and heads are small, uploads and downloads are not.
const (
	smallSize = 4 << 10
	largeSize = 32 << 10
)

//nolint:gochecknoglobals // pools are shared by design
var smallBuffers, largeBuffers = sync.Pool{New: func() any { b := make([]byte, smallSize); return &b }},
	sync.Pool{New: func() any { b := make([]byte, largeSize); return &b }}

func smallBuffer() *[]byte { return smallBuffers.Get().(*[]byte) } //nolint:forcetypeassert // its New
func largeBuffer() *[]byte { return largeBuffers.Get().(*[]byte) } //nolint:forcetypeassert // its New

func pooledBuffer(large bool) *[]byte {
	if large {
		return largeBuffer()
	}
	return smallBuffer()
}

// putBuffer gives a buffer back; one that has outgrown both sizes is left to the collector.
func putBuffer(b *[]byte) {
	switch len(*b) {
	case smallSize:
		smallBuffers.Put(b)
	case largeSize:
		largeBuffers.Put(b)
	}
}
