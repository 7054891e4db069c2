package twin

import (
	"fmt"
	"testing"
	"time"

	"wattline/meter"
	"wattline/meter/prompt"
)

// BenchmarkExport is a week of sessions of 40 turns: each prompt has all parts of the one before it, and three new ones of
// 2 KB.
func BenchmarkExport(b *testing.B) {
	const sessions, turns = 50, 40
	at := time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)
	var rows []*meter.Record
	var stored [][]byte
	hash := uint64(0)
	next := func() uint64 { hash += 0x9E3779B97F4A7C15; return hash }
	for s := range sessions {
		f := prompt.Fingerprint{}
		for turn := range turns {
			for _, role := range []prompt.Role{prompt.Assistant, prompt.ToolRole, prompt.User} {
				p := prompt.Part{Kind: prompt.Text, Role: role, Message: len(f.Parts) + 1, Len: 2000, Sum: next()}
				for range (p.Len - 1) / prompt.Block {
					p.Blocks = append(p.Blocks, next())
				}
				f.Parts, f.Bytes = append(f.Parts, p), f.Bytes+2000
			}
			rows = append(rows, &meter.Record{
				StartedAt: at.Add(time.Duration(len(rows)) * time.Minute), Dialect: "chat", Outcome: meter.OK, Session: fmt.Sprint(s), PromptTokens: meter.Some(f.Bytes / 4),
				CachedTokens: meter.Some(int64(turn) * 1500), OutputTokens: meter.Some(500), DurationUs: meter.Some(1_000_000), CacheVerdict: "hit",
			})
			stored = append(stored, f.Append(nil))
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		x := &Exporter{}
		for i, rec := range rows {
			x.Add(rec, stored[i])
		}
		t, _, err := x.Trace(nil)
		if err != nil || t.Sessions() != sessions {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(rows)), "us/request")
}
