package archive

import (
	"encoding/csv"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"wattline/meter"
	"wattline/replay"
)

// The lines of timeseries.csv have one of three kinds: "second" holds a device's power and state in a span,
// "curve" its power at the finest step there is, "gauge" the requests that the proxy had in flight.
// An empty field was not obtained.
//
//nolint:gochecknoglobals // a constant list
var seriesHeader = []string{
	"kind", "at", "device", "span_us", "mean_mw", "max_mw", "energy_uj", "temp_c", "util_permille", "sm_clock_mhz", "limit_mw",
	"vram_bytes", "throttled_us", "throttle", "source", "in_flight",
}

func writeSeries(w io.Writer, run *replay.Run) error {
	c := csv.NewWriter(w)
	if err := c.Write(seriesHeader); err != nil {
		return err
	}
	row := func(kind string, at time.Time, device string, spanUs meter.Int, fill func(map[string]string)) error {
		f := map[string]string{"kind": kind, "at": at.UTC().Format(time.RFC3339Nano), "device": device, "span_us": field(spanUs)}
		fill(f)
		line := make([]string, len(seriesHeader))
		for i, name := range seriesHeader {
			line[i] = f[name]
		}
		return c.Write(line)
	}
	for i := range run.Power.Samples {
		s := &run.Power.Samples[i]
		if err := row("second", s.At, s.Device, s.SpanUs, func(f map[string]string) {
			for name, v := range sampleFields(s) {
				f[name] = field(*v)
			}
			f["throttle"], f["source"] = strings.Join(s.Throttle, " "), s.Source
		}); err != nil {
			return err
		}
	}
	for _, curve := range run.Power.Curves {
		for i, mw := range curve.MilliWatts {
			at := curve.From.Add(time.Duration(i) * time.Duration(curve.StepUs) * time.Microsecond)
			if err := row("curve", at, curve.Device, meter.Some(curve.StepUs), func(f map[string]string) { f["mean_mw"] = strconv.FormatInt(mw, 10) }); err != nil {
				return err
			}
		}
	}
	for _, g := range run.Gauge {
		if err := row("gauge", g.At, "", meter.Int{}, func(f map[string]string) { f["in_flight"] = strconv.Itoa(g.InFlight) }); err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}

// sampleFields are the integers of a sample, by their names in the file.
func sampleFields(s *replay.Sample) map[string]*meter.Int {
	return map[string]*meter.Int{
		"mean_mw": &s.MeanMw, "max_mw": &s.MaxMw, "energy_uj": &s.EnergyUj, "temp_c": &s.TempC, "util_permille": &s.UtilPermille,
		"sm_clock_mhz": &s.SMClockMHz, "limit_mw": &s.LimitMw, "vram_bytes": &s.VRAMBytes, "throttled_us": &s.ThrottledUs,
	}
}

func field(v meter.Int) string {
	if !v.Valid {
		return ""
	}
	return strconv.FormatInt(v.V, 10)
}

func readSeries(files fs.FS, dir string, run *replay.Run) error {
	path := filepath.Join(dir, SeriesFile)
	f, err := files.Open(SeriesFile)
	if err != nil {
		return fmt.Errorf("archive: %s: %w", dir, err)
	}
	defer f.Close() //nolint:errcheck // only read
	lines, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return fmt.Errorf("archive: %s: %w", path, err)
	}
	for n, line := range lines {
		if n == 0 {
			continue
		}
		r := map[string]string{}
		for i, name := range lines[0] {
			r[name] = line[i]
		}
		if err := takeLine(r, run); err != nil {
			return fmt.Errorf("archive: %s:%d: %w", path, n+1, err)
		}
	}
	return nil
}

func takeLine(r map[string]string, run *replay.Run) error {
	at, err := time.Parse(time.RFC3339Nano, r["at"])
	if err != nil {
		return err
	}
	switch r["kind"] {
	case "gauge":
		n, err := strconv.Atoi(r["in_flight"])
		run.Gauge = append(run.Gauge, replay.GaugePoint{At: at, InFlight: n})
		return err
	case "curve":
		return takeCurve(r, at, run)
	}
	s := replay.Sample{At: at, Device: r["device"], Throttle: strings.Fields(r["throttle"]), Source: r["source"]}
	fields := sampleFields(&s)
	fields["span_us"] = &s.SpanUs
	for name, v := range fields {
		if *v, err = parseField(r[name]); err != nil {
			return err
		}
	}
	run.Power.Samples = append(run.Power.Samples, s)
	return nil
}

// takeCurve appends a point to its device's curve.
func takeCurve(r map[string]string, at time.Time, run *replay.Run) error {
	step, err := parseField(r["span_us"])
	if err != nil {
		return err
	}
	mw, err := parseField(r["mean_mw"])
	if err != nil {
		return err
	}
	for i := range run.Power.Curves {
		if c := &run.Power.Curves[i]; c.Device == r["device"] {
			c.MilliWatts = append(c.MilliWatts, mw.V)
			return nil
		}
	}
	run.Power.Curves = append(run.Power.Curves, replay.Curve{Device: r["device"], From: at, StepUs: step.V, MilliWatts: []int64{mw.V}})
	return nil
}

func parseField(s string) (meter.Int, error) {
	if s == "" {
		return meter.Int{}, nil
	}
	v, err := strconv.ParseInt(s, 10, 64)
	return meter.Some(v), err
}
