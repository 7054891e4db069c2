package cache

import (
	"fmt"
	"testing"

	"wattline/meter"
	"wattline/meter/prompt"
)

// BenchmarkJudge judges a prompt beside as many earlier ones as are kept: all the same, or all different.
func BenchmarkJudge(b *testing.B) {
	for _, same := range []bool{true, false} {
		b.Run(fmt.Sprintf("same=%t", same), func(b *testing.B) {
			c := newChat()
			request := func(i int) *Request {
				if same {
					i = 0
				}
				text := body("You are a helpful assistant.", fmt.Sprintf("%d: what is the capital of France?", i))
				return &Request{
					ID: "x", Prompt: prompt.Parse(key, text, nil), PromptTokens: meter.Some(30), CachedTokens: meter.Some(20),
				}
			}
			for i := range maxPerServer {
				q := request(i)
				q.Started, q.Ended = int64(2*i), int64(2*i+1)
				c.h.Add(q)
			}
			q := request(0)
			q.Started, q.Ended = 1000, 1001
			b.ReportAllocs()
			for b.Loop() {
				c.h.Judge(q)
			}
		})
	}
}
