package metrics

import (
	"bytes"
	"os"
	"runtime"
	"strconv"

	"go.opentelemetry.io/otel/attribute"

	"wattline/sink/semconv"
)

// process writes what wattline itself uses. Resident memory is read from /proc, where there is one.
func (s observer) process() {
	if user, other, err := cpuUsed(); err == nil {
		s.put(semconv.MetricCPUTime, user.Seconds(), attribute.String(semconv.CPUMode, semconv.CPUUser))
		s.put(semconv.MetricCPUTime, other.Seconds(), attribute.String(semconv.CPUMode, semconv.CPUOther))
	}
	if statm, err := os.ReadFile("/proc/self/statm"); err == nil {
		if f := bytes.Fields(statm); len(f) > 1 {
			if pages, err := strconv.ParseInt(string(f[1]), 10, 64); err == nil {
				s.put(semconv.MetricMemory, float64(pages*int64(os.Getpagesize())))
			}
		}
	}
	s.put(semconv.MetricGoroutines, float64(runtime.NumGoroutine()))
}
