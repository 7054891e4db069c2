// Package recording reads the folders that `wattline serve --record` writes and feeds them to a ledger
// in order of arrival: the same ledger, offline.
//
// A folder holds counter.csv (energy counter, average and instant power, temperature), ring.csv (the
// driver's own power samples) and requests.jsonl (one request a line, as its client saw it; lines with a
// "mark" name phases). Each file may be gzipped (counter.csv.gz). All stamps are one clock's.
package recording

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Reading is one poll of the counter and the gauges beside it. Zero fields were not recorded, except
// EnergyMJ.
type Reading struct {
	Before, After int64 // ns
	EnergyMJ      int64
	AverageMW     int64
	InstantMW     int64
	TempC         int64
}

// Sample is one power sample of the driver's ring: the mean since the sample before it.
type Sample struct {
	At int64 // ns
	MW int64
}

// Request is one request as its client saw it. Stamps are ns; null where it never happened.
type Request struct {
	Tag     string   `json:"tag"`
	Who     string   `json:"who,omitempty"`
	Words   int64    `json:"n_in"`
	Max     int64    `json:"n_out"`
	Slot    *int     `json:"slot,omitempty"`
	Send    int64    `json:"t_send"`
	Header  *int64   `json:"t_header"`
	Event0  *int64   `json:"t_event0"`
	Event1  *int64   `json:"t_event1"`
	Last    *int64   `json:"t_last"`
	End     int64    `json:"t_end"`
	Events  int64    `json:"events"`
	Timings *Timings `json:"timings"`
	GapsUS  []int64  `json:"event_dt_us"` // between events, the first of them at most
	// Cancelled says that the client left; absent in recordings that hold none.
	Cancelled bool `json:"cancelled,omitempty"`
}

// Timings are the server's own counts and times, from its last event.
type Timings struct {
	CacheN      int64   `json:"cache_n"`
	PromptN     int64   `json:"prompt_n"`
	PromptMS    float64 `json:"prompt_ms"`
	PredictedN  int64   `json:"predicted_n"`
	PredictedMS float64 `json:"predicted_ms"`
}

// Mark names the phase of a recording that begins at At.
type Mark struct {
	Name string `json:"mark"`
	At   int64  `json:"t"`
}

// Recording is a folder's content.
type Recording struct {
	Readings []Reading
	Samples  []Sample // empty where the device has no ring
	Requests []Request
	Marks    []Mark
}

// Read reads the folder dir.
func Read(dir string) (*Recording, error) {
	var r Recording
	if err := eachRow(dir, "counter.csv", r.addReading); err != nil {
		return nil, err
	}
	if err := eachRow(dir, "ring.csv", r.addSample); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	f, err := open(dir, "requests.jsonl")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := r.readRequests(f); err != nil {
		return nil, fmt.Errorf("recording: %s: %w", filepath.Join(dir, "requests.jsonl"), err)
	}
	if len(r.Readings) == 0 && len(r.Samples) == 0 {
		return nil, fmt.Errorf("recording: %s holds no energy readings; record again with `wattline serve --record`", dir)
	}
	return &r, nil
}

// open opens name in dir, or name.gz.
func open(dir, name string) (io.ReadCloser, error) {
	path := filepath.Join(dir, name)
	f, err := os.Open(path)
	if err == nil {
		return f, nil
	}
	z, zerr := os.Open(path + ".gz")
	if zerr != nil {
		return nil, fmt.Errorf("recording: %w", err)
	}
	g, err := gzip.NewReader(z)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("recording: %s.gz: %w", path, err), z.Close())
	}
	return unzipped{g, z}, nil
}

type unzipped struct {
	*gzip.Reader
	file *os.File
}

func (u unzipped) Close() error { return errors.Join(u.Reader.Close(), u.file.Close()) }

// eachRow calls add with every row of a CSV file of integers; its header names the columns.
func eachRow(dir, name string, add func(get func(column string) int64)) error {
	f, err := open(dir, name)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	var columns map[string]int
	var fields []string
	for n := 1; lines.Scan(); n++ {
		fields = strings.Split(strings.TrimSpace(lines.Text()), ",")
		if columns == nil {
			columns = map[string]int{}
			for i, c := range fields {
				columns[c] = i
			}
			continue
		}
		if len(fields) != len(columns) {
			if len(fields) == 1 && fields[0] == "" {
				continue
			}
			return fmt.Errorf("recording: %s line %d has %d fields, its header has %d", name, n, len(fields), len(columns))
		}
		var bad error
		add(func(column string) int64 {
			i, ok := columns[column]
			if !ok || fields[i] == "" {
				return 0
			}
			v, err := strconv.ParseInt(fields[i], 10, 64)
			if err != nil {
				bad = fmt.Errorf("recording: %s line %d, column %s: %w", name, n, column, err)
			}
			return v
		})
		if bad != nil {
			return bad
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("recording: %s: %w", name, err)
	}
	return nil
}

func (r *Recording) addReading(get func(string) int64) {
	r.Readings = append(r.Readings, Reading{
		Before: get("t_before_ns"), After: get("t_after_ns"), EnergyMJ: get("energy_mj"),
		AverageMW: get("power_avg_mw"), InstantMW: get("power_instant_mw"), TempC: get("temp_c"),
	})
}

func (r *Recording) addSample(get func(string) int64) {
	r.Samples = append(r.Samples, Sample{At: get("t_us") * 1000, MW: get("power_mw")})
}

func (r *Recording) readRequests(f io.Reader) error {
	lines := bufio.NewReader(f)
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if line = bytes.TrimSpace(line); len(line) > 0 {
			if err := r.addLine(line); err != nil {
				return fmt.Errorf("line %d: %w", n, err)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *Recording) addLine(line []byte) error {
	var m Mark
	if err := json.Unmarshal(line, &m); err != nil {
		return err
	}
	if m.Name != "" {
		r.Marks = append(r.Marks, m)
		return nil
	}
	var q Request
	if err := json.Unmarshal(line, &q); err != nil {
		return err
	}
	r.Requests = append(r.Requests, q)
	return nil
}
