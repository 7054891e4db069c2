package prompt

import (
	"encoding/binary"
	"errors"
)

// MaxStored bounds a stored fingerprint, in bytes.
const MaxStored = 16 << 10

const (
	storedVersion = 1
	maxThinning   = 40 // 2^40 blocks are longer than any prompt
	flagPrevious  = 1
	flagSeveral   = 2
	flagCut       = 4
)

// Append appends the form in which a fingerprint is stored: kinds, roles, lengths and hashes. Where that would take more than
// MaxStored bytes it keeps every second, fourth, ... hash of a part, and at last only the first parts.
func (f *Fingerprint) Append(dst []byte) []byte {
	parts, fixed := f.fitting()
	thin := 0
	for ; thin < maxThinning; thin++ {
		size := fixed
		for i := range f.Parts[:parts] {
			size += 8 * (len(f.Parts[i].Blocks) >> thin)
		}
		if size <= MaxStored {
			break
		}
	}
	var flags byte
	if f.Previous {
		flags |= flagPrevious
	}
	if f.Several {
		flags |= flagSeveral
	}
	if parts < len(f.Parts) || f.Cut {
		flags |= flagCut
	}
	dst = append(dst, storedVersion, flags, byte(thin))
	dst = binary.AppendUvarint(dst, uint64(f.Bytes))
	dst = binary.AppendUvarint(dst, uint64(parts))
	for i := range f.Parts[:parts] {
		p := &f.Parts[i]
		dst = append(dst, byte(p.Kind)<<4|byte(p.Role))
		dst = binary.AppendUvarint(dst, uint64(p.Message))
		dst = binary.AppendUvarint(dst, uint64(p.Len))
		dst = binary.LittleEndian.AppendUint64(dst, p.Sum)
		for n := 1; n<<thin <= len(p.Blocks); n++ {
			dst = binary.LittleEndian.AppendUint64(dst, p.Blocks[n<<thin-1])
		}
	}
	return dst
}

// fitting returns how many parts fit without their blocks, and the size of these.
func (f *Fingerprint) fitting() (parts, size int) {
	var room [binary.MaxVarintLen64]byte
	size = 3 + 2*binary.MaxVarintLen64
	for i := range f.Parts {
		p := &f.Parts[i]
		n := 9 + binary.PutUvarint(room[:], uint64(p.Message)) + binary.PutUvarint(room[:], uint64(p.Len))
		if size+n > MaxStored {
			break
		}
		parts, size = i+1, size+n
	}
	return parts, size
}

var errStored = errors.New("prompt: the stored fingerprint cannot be read")

// Decode reads what Append wrote.
func Decode(b []byte) (*Prompt, error) {
	if len(b) < 3 || b[0] != storedVersion || b[2] >= maxThinning {
		return nil, errStored
	}
	p := &Prompt{}
	p.Previous, p.Several, p.Cut = b[1]&flagPrevious != 0, b[1]&flagSeveral != 0, b[1]&flagCut != 0
	thin := int(b[2])
	b = b[3:]
	number := func(limit uint64) int {
		v, n := binary.Uvarint(b)
		if n <= 0 || v > limit {
			b = nil
			return 0
		}
		b = b[n:]
		return int(v)
	}
	p.Bytes = int64(number(1 << 40))
	n := number(MaxStored)
	for range n {
		if len(b) == 0 {
			return nil, errStored
		}
		q := Part{Kind: Kind(b[0] >> 4), Role: Role(b[0] & 15)}
		b = b[1:]
		q.Message, q.Len = number(1<<31), number(1<<31)
		if len(b) < 8 || q.Len == 0 {
			return nil, errStored
		}
		q.Sum = binary.LittleEndian.Uint64(b)
		b = b[8:]
		whole := (q.Len - 1) / Block
		kept := whole >> thin
		if len(b) < 8*kept {
			return nil, errStored
		}
		if kept > 0 {
			q.Blocks = make([]uint64, kept<<thin)
		}
		for i := 1; i <= kept; i++ {
			q.Blocks[i<<thin-1] = binary.LittleEndian.Uint64(b)
			b = b[8:]
		}
		p.Parts = append(p.Parts, q)
	}
	if len(b) > 0 {
		return nil, errStored
	}
	return p, nil
}
