package store

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"wattline/meter"
	"wattline/meter/metertest"
	"wattline/sink"
)

// whole is a row as a measured stream fills it: about two thirds of the columns.
func whole(i int) *meter.Record {
	rec := request(i)
	for _, c := range meter.Columns() {
		j := len(c.Name) // not the column's place, so that versions with other columns compare
		switch p := c.Ptr(rec).(type) {
		case *meter.Int:
			*p = meter.Some(int64(i*j) % 5_000_000)
		case *string:
			if *p == "" && j%2 == 0 {
				*p = "text of " + c.Name
			}
		case **meter.Details:
			*p = &meter.Details{
				Temperature: meter.Float{V: 0.7, Valid: true}, Seed: meter.Some(7), ServerBuild: "b11669-Debian", QueueSource: meter.SourceHead,
				PrefillSource: meter.SourceServer, DecodeSource: meter.SourceMarks, OutputReads: meter.Some(200), MaxOutputsPerRead: meter.Some(1),
			}
		}
	}
	if i%20 > 0 {
		rec.CacheLostTokens = meter.Some(0)
	}
	return rec
}

// BenchmarkWrite inserts and settles; an op is one row through its whole life.
func BenchmarkWrite(b *testing.B) {
	for _, size := range []int{1, 50, 250, 1000} {
		for _, kind := range []string{"final", "settled"} {
			b.Run(fmt.Sprintf("%s/batch=%d", kind, size), func(b *testing.B) {
				s, err := Open(context.Background(), Config{Path: b.TempDir() + "/wattline.db", Log: quiet()})
				if err != nil {
					b.Fatal(err)
				}
				defer s.Close()
				began := metertest.CPUTime()
				for i := 0; b.Loop(); i++ {
					rows := &sink.Rows{}
					for j := range size {
						rec := whole(i*size + j)
						if kind == "settled" {
							rec.EnergyQuality = meter.EnergyPending
						}
						rows.Requests = append(rows.Requests, rec)
					}
					if err := s.Write(context.Background(), rows); err != nil {
						b.Fatal(err)
					}
					if kind == "final" {
						continue
					}
					for _, rec := range rows.Requests {
						rec.EnergyQuality = meter.EnergyShared
					}
					if err := s.Write(context.Background(), &sink.Rows{Settled: rows.Requests}); err != nil {
						b.Fatal(err)
					}
				}
				n := float64(b.N * size)
				b.ReportMetric(n/b.Elapsed().Seconds(), "rows/s")
				b.ReportMetric(float64((metertest.CPUTime()-began).Microseconds())/n, "cpu-us/row")
				measured, err := s.Size(context.Background())
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(measured.UsedBytes)/n, "B/row")
			})
		}
	}
}

// BenchmarkRow writes rows that are settled later, 250 a transaction, with and without blocks; an op is a row.
func BenchmarkRow(b *testing.B) {
	for _, kind := range []string{"rows", "rows-and-blocks"} {
		b.Run(kind, func(b *testing.B) { rowCost(b, kind == "rows-and-blocks") })
	}
}

func rowCost(b *testing.B, blocks bool) {
	const batch = 250
	ctx := context.Background()
	s, err := Open(ctx, Config{Path: b.TempDir() + "/wattline.db", Log: quiet()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	var used time.Duration // of Write alone
	for i := 0; b.Loop(); i++ {
		if i%batch > 0 {
			continue
		}
		rows := &sink.Rows{}
		for j := range batch {
			rec := unsettled(i + j)
			rows.Requests = append(rows.Requests, rec)
		}
		settled := make([]*meter.Record, batch)
		for j := range settled {
			settled[j] = whole(i + j)
			settled[j].EnergyQuality = meter.EnergyShared
		}
		began := metertest.CPUTime()
		if err := s.Write(ctx, rows); err != nil {
			b.Fatal(err)
		}
		if err := s.Write(ctx, &sink.Rows{Settled: settled}); err != nil {
			b.Fatal(err)
		}
		used += metertest.CPUTime() - began
		if blocks && i == 0 { // Write makes them from now on
			if _, err := s.Pack(ctx); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(used.Microseconds())/float64(b.N), "cpu-us/row")
}

// BenchmarkQueue offers 5,000 rows a second, each settled a second later, for three seconds: the writer must
// keep up, which is no row dropped and none waiting at the end.
func BenchmarkQueue(b *testing.B) {
	const rate, seconds = 5000, 3
	for b.Loop() {
		s, err := Open(context.Background(), Config{Path: b.TempDir() + "/wattline.db", Log: quiet()})
		if err != nil {
			b.Fatal(err)
		}
		q := sink.New(sink.Config{Store: s, Log: quiet()})
		began, slowest, most := metertest.CPUTime(), time.Duration(0), 0
		tick := time.NewTicker(10 * time.Millisecond)
		for i := 0; i < rate*(seconds+1); {
			<-tick.C
			for range rate / 100 {
				if i < rate*seconds {
					rec := whole(i)
					rec.EnergyQuality = meter.EnergyPending
					t0 := time.Now()
					q.Offer(rec)
					slowest = max(slowest, time.Since(t0))
				}
				if settled := i - rate; settled >= 0 {
					rec := whole(settled)
					rec.EnergyQuality = meter.EnergyShared
					q.Settle(rec)
				}
				i++
			}
			most = max(most, q.Stats().Waiting)
		}
		tick.Stop()
		used := metertest.CPUTime() - began
		if err := q.Stop(context.Background()); err != nil {
			b.Fatal(err)
		}
		st := q.Stats()
		if st.Requests.Written != rate*seconds || st.Settled.Written != rate*seconds {
			b.Errorf("the writer does not keep up: %+v", st)
		}
		b.ReportMetric(float64(used.Microseconds())/(rate*seconds), "cpu-us/row")
		b.ReportMetric(float64(slowest.Microseconds()), "slowest-offer-us")
		b.ReportMetric(float64(most), "most-waiting")
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkShip picks and confirms batches of 5,000 rows; an op is a row.
func BenchmarkShip(b *testing.B) {
	const size = 5000
	ctx := context.Background()
	s, err := Open(ctx, Config{Path: b.TempDir() + "/wattline.db", Log: quiet()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for i := 0; b.Loop(); i += size {
		b.StopTimer()
		rows := &sink.Rows{}
		for j := range size {
			rows.Requests = append(rows.Requests, whole(i+j))
		}
		if err := s.Write(ctx, rows); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		batch, err := s.NextBatch(ctx, size)
		if err != nil || len(batch.IDs) != size {
			b.Fatalf("%d rows, %v", len(batch.IDs), err)
		}
		if err := s.ConfirmBatch(ctx, batch.Seq); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "rows/s")
}

// unsettled is a row as it is first written: without what its settling adds, and one in 20 lost cached tokens.
func unsettled(i int) *meter.Record {
	rec := whole(i)
	for _, c := range energyColumns() {
		joules := strings.HasPrefix(c.Name, "gpu_") || strings.HasPrefix(c.Name, "cpu_") || c.Name == "vram_bytes" ||
			strings.HasPrefix(c.Name, "energy_")
		switch p := c.Ptr(rec).(type) {
		case *meter.Int:
			if joules || c.Name == "cache_lost_us" || c.Name == "cache_lost_uj" {
				*p = meter.Int{}
			}
		case *string:
			if joules {
				*p = ""
			}
		}
	}
	rec.EnergyQuality = meter.EnergyPending
	return rec
}
