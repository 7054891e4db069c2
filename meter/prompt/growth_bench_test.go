package prompt

import (
	"fmt"
	"testing"
)

// BenchmarkGrowth is how the fingerprint of a prompt, its text at rest and its comparison with the one before it grow with the
// prompt, as an agent's does: turn by turn, each with a file. A token is taken for four bytes.
func BenchmarkGrowth(b *testing.B) {
	const turn = 7200 // bytes of agentBody(1, 7000), about
	for _, tokens := range []int{1_000, 10_000, 50_000, 200_000} {
		b.Run(fmt.Sprintf("tokens=%d", tokens), func(b *testing.B) {
			turns := max(1, tokens*4/turn)
			before, body := []byte(agentBody(max(1, turns-1), min(7000, tokens*4))), []byte(agentBody(turns, min(7000, tokens*4)))
			old, err := Decode(Parse(testKey, before, nil).Append(nil))
			if err != nil {
				b.Fatal(err)
			}
			memory, stored := make([]byte, 0, len(body)), []byte(nil)
			b.ReportAllocs()
			for b.Loop() {
				p := Parse(testKey, body, memory)
				stored = p.Append(stored[:0])
				Compare(p, old, false)
			}
			b.ReportMetric(float64(len(body))/1024, "body-KiB")
			b.ReportMetric(float64(len(stored)), "stored-B")
		})
	}
}
