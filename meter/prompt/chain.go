package prompt

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
)

// Key is the secret of an installation's fingerprints.
type Key struct{ k0, k1 uint64 }

// NewKey derives a key from an installation's secret, so that fingerprints and hashed identities have nothing in common.
func NewKey(secret []byte) Key {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("prompt fingerprints"))
	sum := mac.Sum(nil)
	return Key{binary.LittleEndian.Uint64(sum), binary.LittleEndian.Uint64(sum[8:])}
}

// state is SipHash's.
type state struct{ v0, v1, v2, v3 uint64 }

func (k Key) begin() state {
	return state{k.k0 ^ 0x736f6d6570736575, k.k1 ^ 0x646f72616e646f6d, k.k0 ^ 0x6c7967656e657261, k.k1 ^ 0x7465646279746573}
}

// round is one SipRound.
func (s *state) round() {
	s.v0 += s.v1
	s.v1 = bits.RotateLeft64(s.v1, 13) ^ s.v0
	s.v0 = bits.RotateLeft64(s.v0, 32)
	s.v2 += s.v3
	s.v3 = bits.RotateLeft64(s.v3, 16) ^ s.v2
	s.v0 += s.v3
	s.v3 = bits.RotateLeft64(s.v3, 21) ^ s.v0
	s.v2 += s.v1
	s.v1 = bits.RotateLeft64(s.v1, 17) ^ s.v2
	s.v2 = bits.RotateLeft64(s.v2, 32)
}

func (s *state) word(m uint64) {
	s.v3 ^= m
	s.round()
	s.round()
	s.v0 ^= m
}

// hash is SipHash-2-4 of before, as 8 little-endian bytes, and p behind it.
func (k Key) hash(before uint64, p []byte) uint64 {
	s := k.begin()
	s.word(before)
	n := len(p) + 8
	for ; len(p) >= 8; p = p[8:] {
		s.word(binary.LittleEndian.Uint64(p))
	}
	last := uint64(n) << 56
	for i, c := range p {
		last |= uint64(c) << (8 * i)
	}
	s.word(last)
	s.v2 ^= 0xff
	for range 4 {
		s.round()
	}
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3
}

// chain hashes a part's text. Each value depends on all bytes before it, on the part's kind and on its role. blocks gets one
// value for each whole block that has more text behind it; sum covers all, with the length.
func (k Key) chain(kind Kind, role Role, p []byte, blocks []uint64) (sum uint64, _ []uint64) {
	length := uint64(len(p))
	h := k.hash(uint64(kind)<<8|uint64(role), nil)
	for ; len(p) > Block; p = p[Block:] {
		h = k.hash(h, p[:Block])
		blocks = append(blocks, h)
	}
	return k.hash(k.hash(h, p), binary.LittleEndian.AppendUint64(nil, length)), blocks
}
