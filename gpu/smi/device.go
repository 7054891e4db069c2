package smi

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"wattline/gpu"
	"wattline/meter"
)

// device is one card of the running process.
type device struct {
	s      *Source
	info   gpu.Info
	closed bool

	procsAt int64
	procs   []gpu.Process
	known   bool
}

func (d *device) Info() gpu.Info { return d.info }

func (d *device) Close() error {
	if !d.closed {
		d.closed = true
		d.s.release()
	}
	return nil
}

// staleAfter is how many periods without a line mean that the process hangs.
const staleAfter = 30

// Read implements gpu.Device: it returns the last line, which costs nothing. The processes need a
// program of their own, so they are asked for at most once a minute.
func (d *device) Read(w gpu.Metrics, r *gpu.Reading) error {
	now := d.s.cfg.Clock.Now()
	r.Before = now
	if w&gpu.MetricProcesses != 0 {
		d.listProcs(now)
		r.Procs, r.ProcsKnown = append(r.Procs[:0], d.procs...), d.known
	}
	if w&(gpu.MetricPower|gpu.MetricStatus) != 0 {
		d.s.mu.Lock()
		l, ok := d.s.lines[d.info.UUID]
		broken := d.s.broken
		d.s.mu.Unlock()
		switch {
		case broken != nil:
			return broken
		case !ok:
			return fmt.Errorf("smi: %w", gpu.ErrNotReady)
		case now-l.at > staleAfter*int64(d.s.cfg.Period)+int64(2*time.Second):
			return fmt.Errorf("smi: no line for %s: %w", time.Duration(now-l.at), gpu.ErrLost)
		}
		if w&gpu.MetricPower != 0 {
			r.PowerAt, r.InstantMw, r.AverageMw = l.at, l.instant, l.average
		}
		if w&gpu.MetricStatus != 0 {
			r.Status = l.status
		}
	}
	r.After = d.s.cfg.Clock.Now()
	return nil
}

// listProcs runs nvidia-smi once to list the processes that compute.
func (d *device) listProcs(now int64) {
	if d.procsAt != 0 && now-d.procsAt < int64(time.Minute) {
		return
	}
	d.procsAt = now
	out, err := d.s.once("--query-compute-apps=gpu_uuid,pid,used_memory", "--format=csv,noheader,nounits")
	d.procs, d.known = d.procs[:0], err == nil
	for text := range strings.Lines(out) {
		cells := strings.Split(text, ",")
		if len(cells) != 3 || strings.TrimSpace(cells[0]) != d.info.UUID {
			continue
		}
		pid, err := strconv.Atoi(strings.TrimSpace(cells[1]))
		if err != nil {
			continue
		}
		p := gpu.Process{PID: pid}
		if mib, ok := number(strings.TrimSpace(cells[2])); ok {
			p.MemB = meter.Some(int64(mib) << 20)
		}
		d.procs = append(d.procs, p)
	}
}
