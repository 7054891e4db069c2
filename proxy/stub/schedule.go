package stub

import (
	"hash/fnv"
	"math/rand/v2"
	"time"
)

// schedule draws a reply's words and gaps from the seed and the request's body.
type schedule struct {
	rng         *rand.Rand
	gap, jitter time.Duration
}

func newSchedule(cfg *Config, body []byte) *schedule {
	h := fnv.New64a()
	_, _ = h.Write(body) // never fails
	return &schedule{rng: rand.New(rand.NewPCG(cfg.Seed, h.Sum64())), gap: cfg.TokenGap, jitter: cfg.TokenJitter}
}

// id draws the reply's id of 32 characters.
func (s *schedule) id() string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	b := make([]byte, 32)
	for i := range b {
		b[i] = alphabet[s.rng.IntN(len(alphabet))]
	}
	return string(b)
}

// next draws the gap before a token.
func (s *schedule) next() time.Duration {
	if s.jitter == 0 {
		return s.gap
	}
	return s.gap - s.jitter + time.Duration(s.rng.Int64N(int64(2*s.jitter)+1))
}

// word appends a token's text: two syllables, one in eight with a space before.
func (s *schedule) word(dst []byte) []byte {
	const consonants, vowels = "bcdfghjklmnprstvw", "aeiou"
	n := s.rng.Uint32()
	if n&7 == 0 {
		dst = append(dst, ' ')
	}
	n >>= 3
	for range 2 {
		dst = append(dst, consonants[n%uint32(len(consonants))])
		n /= uint32(len(consonants))
		dst = append(dst, vowels[n%uint32(len(vowels))])
		n /= uint32(len(vowels))
	}
	return dst
}

// countTokens is the tokeniser: a token is up to four bytes.
func countTokens(text string) int { return (len(text) + 3) / 4 }
