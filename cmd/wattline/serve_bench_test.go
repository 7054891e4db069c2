package main

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"wattline/meter"
	"wattline/proxy/stub"
	"wattline/sink"
	"wattline/sink/clickhouse"
	"wattline/sink/clickhouse/chtest"
	"wattline/sink/store"
)

// BenchmarkServe measures the CPU time of `wattline serve` per request, with 64 streamed tokens and 16 requests in
// flight: without energy, with a simulated GPU, and also shipping to ClickHouse. CPU time depends little on other load.
// A good size is -benchtime 5000x.
func BenchmarkServe(b *testing.B) {
	for _, c := range []struct {
		name string
		args []string
		ship bool
	}{{"rows", []string{"--gpu", "none"}, false}, {"energy", []string{"--gpu", "sim"}, false}, {"energy, ClickHouse", []string{"--gpu", "sim"}, true}} {
		b.Run(c.name, func(b *testing.B) {
			args := c.args
			if c.ship {
				args = append(args, "--clickhouse", "http://default@"+engineServer(b).HTTPAddr()+"/wattline")
			}
			w := serve(b, quickUpstream(b), args...)
			before := w.cpuSeconds(b)
			var wg sync.WaitGroup
			requests := make(chan struct{})
			for range 16 {
				wg.Go(func() {
					for range requests {
						if r := w.post(context.Background(), "/v1/chat/completions", chatBody); r.err != nil || r.status != 200 {
							b.Errorf("status %d, %v", r.status, r.err)
						}
					}
				})
			}
			for b.Loop() {
				requests <- struct{}{}
			}
			close(requests)
			wg.Wait()
			w.stop(b)
			cpu := w.cmd.ProcessState.UserTime() + w.cmd.ProcessState.SystemTime()
			b.ReportMetric((cpu.Seconds()-before)*1e6/float64(b.N), "cpu-us/request")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
		})
	}
}

// quickUpstream answers with 64 tokens within 70 ms.
func quickUpstream(tb testing.TB) string {
	tb.Helper()
	url, _ := stubUpstream(tb, stub.Config{FirstToken: 2 * time.Millisecond, HeaderDelay: time.Millisecond, TokenGap: time.Millisecond, Tokens: 64, Slots: 64, KeepAliveMax: 1 << 30})
	return url
}

func engineServer(tb testing.TB) *chtest.Server {
	tb.Helper()
	return chtest.NewServer(tb, chtest.StartEngine(tb, nil), chtest.Options{})
}

// cpuSeconds returns the process's CPU time so far, from its own metrics.
func (w *wattlineProcess) cpuSeconds(tb testing.TB) (sum float64) {
	tb.Helper()
	_, page := w.get(tb, "/metrics")
	for _, m := range regexp.MustCompile(`(?m)^process_cpu_time_seconds_total\{.*\} (\S+)$`).FindAllStringSubmatch(page, -1) {
		v, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			tb.Fatal(err)
		}
		sum += v
	}
	return sum
}

// BenchmarkSamples measures the bytes of a second of one device in the store and in ClickHouse: a row of power and one of
// ledger, for a day, with realistic noise.
func BenchmarkSamples(b *testing.B) {
	for b.Loop() {
		const day = 86_400
		ctx := context.Background()
		s, err := store.Open(ctx, store.Config{Path: filepath.Join(b.TempDir(), "wattline.db"), Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close() //nolint:gocritic // one round, as a rule
		empty, err := s.Size(ctx)
		if err != nil {
			b.Fatal(err)
		}
		r := rand.New(rand.NewPCG(1, 2))
		for from := 0; from < day; from += 1000 {
			if err := s.Write(ctx, seconds(r, from, min(from+1000, day))); err != nil {
				b.Fatal(err)
			}
		}
		full, err := s.Size(ctx)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(full.UsedBytes-empty.UsedBytes)/day, "B/s-store")
		srv := engineServer(b)
		shipAll(b, s, srv)
		for _, table := range []string{"power", "ledger"} {
			if _, err := srv.Engine().Query(ctx, "OPTIMIZE TABLE wattline."+table+" FINAL"); err != nil {
				b.Fatal(err)
			}
			text, err := srv.Engine().Query(ctx, fmt.Sprintf("SELECT toString(sum(bytes_on_disk) / sum(rows)), toString(sum(rows)) FROM system.parts WHERE active AND database = 'wattline' AND table = '%s'", table))
			if err != nil {
				b.Fatal(err)
			}
			var bytes float64
			var rows int
			if _, err := fmt.Sscan(text, &bytes, &rows); err != nil || rows != day {
				b.Fatalf("%s: %q, %v", table, text, err)
			}
			b.ReportMetric(bytes, "B/row-"+table)
		}
	}
}

// shipAll ships all rows of a store to ClickHouse.
func shipAll(tb testing.TB, s *store.Store, srv *chtest.Server) {
	tb.Helper()
	target, err := clickhouse.ParseDSN(srv.DSN("wattline"))
	if err != nil {
		tb.Fatal(err)
	}
	client, err := clickhouse.Open(target)
	if err != nil {
		tb.Fatal(err)
	}
	defer client.Close()
	if _, _, err := client.Ensure(context.Background()); err != nil {
		tb.Fatal(err)
	}
	if err := clickhouse.NewShipper(clickhouse.Config{Client: client, Outbox: s}).Flush(context.Background()); err != nil {
		tb.Fatal(err)
	}
}

// seconds returns the rows of a GPU that is busy in every second minute, with realistic noise.
func seconds(r *rand.Rand, from, to int) *sink.Rows {
	some := meter.Some
	rows := &sink.Rows{}
	for i := from; i < to; i++ {
		at := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC).Add(time.Duration(i) * time.Second)
		busy := i/60%2 == 0
		mw := int64(120_000 + r.NormFloat64()*800)
		if busy {
			mw = int64(320_000 + r.NormFloat64()*60_000)
		}
		span := 1_000_000 + r.Int64N(400) - 200
		uj := mw * span / 1000
		temp, idle := int64(45), uj
		if busy {
			temp, idle = 62+r.Int64N(4), 0
		}
		p := &sink.Power{
			At: at, Instance: "gpu-host-1", Device: "GPU-5d8f2a10-9c1e-4b7d-8a55-0f6d3e1b2c4a", SpanUs: some(span), EnergyUj: some(uj), MeanMw: some(mw), MaxMw: some(mw + r.Int64N(90_000)),
			TempC: some(temp), UtilPermille: some(int64(10 * r.IntN(101))), VRAMBytes: some(61<<30 + r.Int64N(1<<20)), SMClockMHz: some(1980 - r.Int64N(3)*15), LimitMw: some(700_000), ThrottledUs: some(0), Source: "nvml/ring",
		}
		l := &sink.Ledger{At: at, Instance: p.Instance, Device: p.Device, SpanUs: some(span), CounterUj: some(uj), PoolsUj: some(0), IdleUj: some(idle), ResidualUj: some(r.Int64N(900_000)), Source: "nvml/counter"}
		if busy {
			l.RequestsIdleUj = some(120_000 * span / 1000)
			l.RequestsActiveUj = some(uj - l.RequestsIdleUj.V - l.ResidualUj.V)
		} else {
			l.RequestsIdleUj, l.RequestsActiveUj, l.IdleUj = some(0), some(0), some(uj-l.ResidualUj.V)
		}
		rows.Power, rows.Ledger = append(rows.Power, p), append(rows.Ledger, l)
	}
	return rows
}
