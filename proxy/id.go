package proxy

import (
	"encoding/binary"
	"math/rand/v2"

	"github.com/google/uuid"
)

// newID makes a row's id, a UUID of version 7. Its random part is from the runtime's generator (ChaCha8, seeded
// by the system), which takes no system call.
func newID() string {
	id, err := uuid.NewV7FromReader(random{})
	if err != nil { // it never fails
		return uuid.NewString()
	}
	return id.String()
}

// random is an endless io.Reader.
type random struct{}

func (random) Read(p []byte) (int, error) {
	for i := 0; i < len(p); i += 8 {
		var b [8]byte
		binary.NativeEndian.PutUint64(b[:], rand.Uint64())
		copy(p[i:], b[:])
	}
	return len(p), nil
}
