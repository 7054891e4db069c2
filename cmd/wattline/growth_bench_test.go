//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wattline/proxy/stub"
	"wattline/replay/proxies"
)

// BenchmarkGrowthRoutes is how serve grows with its routes: until it serves, at rest, and with a request.
func BenchmarkGrowthRoutes(b *testing.B) {
	for _, n := range []int{1, 4, 16, 64} {
		b.Run(fmt.Sprintf("routes=%d", n), func(b *testing.B) {
			url, _ := stubUpstream(b, stub.Config{Tokens: 8, Slots: 64, KeepAliveMax: 1 << 30})
			var conf strings.Builder
			conf.WriteString("routes:\n")
			for i := range n {
				fmt.Fprintf(&conf, "  - {name: r%d, listen: \"127.0.0.1:0\", upstream: %q}\n", i, url)
			}
			path := filepath.Join(b.TempDir(), "config.yaml")
			if err := os.WriteFile(path, []byte(conf.String()), 0o600); err != nil {
				b.Fatal(err)
			}
			w := start(b, "serve", "--config", path, "--admin", "127.0.0.1:0", "--gpu", "sim")
			began := w.cpuSeconds(b)
			b.ReportMetric(began*1e3, "start-cpu-ms")
			const rest = 10 * time.Second
			<-time.After(rest)
			idle := w.cpuSeconds(b)
			b.ReportMetric((idle-began)*1e3/rest.Seconds(), "idle-cpu-ms/s")
			b.ReportMetric(float64(residentKiB(b, w.cmd.Process.Pid))/1024, "rss-MiB")
			for i := 0; b.Loop(); i++ {
				if r := w.client(i%n).post(context.Background(), "/v1/chat/completions", chatBody); r.err != nil || r.status != 200 {
					b.Fatalf("status %d, %v", r.status, r.err)
				}
			}
			b.ReportMetric((w.cpuSeconds(b)-idle)*1e6/float64(b.N), "cpu-us/request")
			w.stop(b)
		})
	}
}

// client is the process as a client of one route sees it.
func (w *wattlineProcess) client(route int) *wattlineProcess {
	return &wattlineProcess{url: w.urls[route]}
}

// residentKiB is VmRSS.
func residentKiB(tb testing.TB, pid int) (kib int) {
	tb.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		tb.Fatal(err)
	}
	_, text2, _ := strings.Cut(string(text), "VmRSS:")
	if _, err := fmt.Sscan(text2, &kib); err != nil {
		tb.Fatal(err)
	}
	return kib
}

// BenchmarkGrowthStreams is how serve grows with its streams: memory of idle ones, CPU and added latency at an event a second
// each. It needs two open files a stream (ulimit -n).
func BenchmarkGrowthStreams(b *testing.B) {
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{1, 10, 100, 1000, 9000} {
		b.Run(fmt.Sprintf("streams=%d", n), func(b *testing.B) {
			ramp := max(10*time.Millisecond, time.Duration(n)*500*time.Microsecond)
			for b.Loop() {
				r, err := proxies.Run(b.Context(), proxies.Config{
					Executable: exe, RoleArgs: []string{"bench-role"}, Rounds: 3, Scale: 1, Only: []string{proxies.Direct, proxies.Wattline},
					Scenarios: []proxies.Scenario{
						{Key: "busy", Title: "an event a second", Streams: n, Gap: time.Second, Ramp: ramp, Settle: 500 * time.Millisecond, Window: 4 * time.Second},
						{Key: "idle", Title: "idle", Streams: n, Gap: 6*time.Second + ramp, Ramp: ramp, Settle: time.Second, Window: time.Second, Idle: true, Quick: 5},
					},
				})
				if err != nil {
					b.Fatal(err)
				}
				busy, idle := r.Sections[0].Rows[1], r.Sections[1].Rows[1]
				b.ReportMetric(float64(busy.Median.CPU), "cpu-us/event")
				b.ReportMetric(float64(busy.AddedP50), "added-p50-us")
				b.ReportMetric(float64(busy.AddedP99), "added-p99-us")
				b.ReportMetric(float64(idle.Median.PerStream), "KiB/stream")
				b.ReportMetric(float64(idle.Median.RSS), "rss-MiB")
				b.ReportMetric(float64(busy.Median.Failures+idle.Median.Failures), "failed")
			}
		})
	}
}
