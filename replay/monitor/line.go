package monitor

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"wattline/meter"
	"wattline/replay"
)

// Line is one look: a canary, or the traffic since the line before.
type Line struct {
	At       time.Time `json:"at"`
	Kind     string    `json:"kind"` // Canary or Traffic
	Requests int       `json:"requests"`
	// Skipped is why nothing was measured; everything else is null then.
	Skipped string `json:"skipped,omitempty"`

	TTFTMs    replay.Num `json:"ttft_ms"` // medians
	DecodeTPS replay.Num `json:"decode_tokens_per_second"`
	JPerToken replay.Num `json:"j_per_token"`
	Watts     replay.Num `json:"watts"` // mean while requests ran
	TempC     replay.Num `json:"temp_c"`
	VRAMGB    replay.Num `json:"vram_gb"`
	Throttled replay.Num `json:"throttled_s"`
	Contended int        `json:"contended"` // requests beside which another process computed on the device
	ConfigID  string     `json:"config_id,omitempty"`
	Build     string     `json:"build,omitempty"`
	Model     string     `json:"model,omitempty"`

	CostS replay.Num `json:"cost_s"` // of a canary: how long the server worked for it
	CostJ replay.Num `json:"cost_j"`

	// Scores are what the detectors are given, logarithms by metric: for traffic against like requests before.
	Scores map[string]float64 `json:"scores,omitempty"`
	Alarms []Alarm            `json:"alarms,omitempty"`
}

// The kinds of lines.
const (
	Canary  = "canary"
	Traffic = "traffic"
)

// Alarm is a change that was found.
type Alarm struct {
	Metric  string    `json:"metric"`
	Since   time.Time `json:"since"`
	Percent float64   `json:"percent"` // of what it was before
	Worse   bool      `json:"worse"`
	With    []string  `json:"with"` // what changed at the same time
}

// watched are the metrics of the detectors.
//
//nolint:gochecknoglobals // a constant table
var watched = []struct {
	key, title string
	lower      bool
	value      func(*Line) replay.Num
}{
	{"ttft", "time to first token", true, func(l *Line) replay.Num { return l.TTFTMs }},
	{"decode", "decode speed", false, func(l *Line) replay.Num { return l.DecodeTPS }},
	{"j_per_token", "J/token", true, func(l *Line) replay.Num { return l.JPerToken }},
}

// Series is how many metrics are watched.
func Series() int { return len(watched) }

// fromRows fills a line in from rows.
func (l *Line) fromRows(rows []*meter.Record) {
	var ttft, decode, joules, watts, temp, vram []float64
	for _, r := range rows {
		if r.TTFTUs.Valid {
			ttft = append(ttft, float64(r.TTFTUs.V)/1e3)
		}
		if v := decodeTPS(r); v.Valid {
			decode = append(decode, v.V)
		}
		if r.EnergyQuality == meter.EnergyContended {
			l.Contended++
		} else if v := replay.Ratio(replay.Some(1), replay.TokensPerJoule(r)); v.Valid {
			joules = append(joules, v.V)
		}
		for _, f := range []struct {
			v     meter.Int
			to    *[]float64
			scale float64
		}{{r.GPUMeanMw, &watts, 1e-3}, {r.GPUTempC, &temp, 1}, {r.VRAMBytes, &vram, 1e-9}} {
			if f.v.Valid {
				*f.to = append(*f.to, float64(f.v.V)*f.scale)
			}
		}
		l.ConfigID, l.Model = r.ConfigID, r.Model
		if r.Details != nil {
			l.Build = r.Details.ServerBuild
		}
	}
	l.TTFTMs, l.DecodeTPS, l.JPerToken = replay.Median(ttft), replay.Median(decode), replay.Median(joules)
	l.Watts, l.TempC, l.VRAMGB = replay.Median(watts), replay.Median(temp), replay.Median(vram)
}

func decodeTPS(r *meter.Record) replay.Num {
	if r.OutputTokens.V < 2 || r.DecodeUs.V < 2000 {
		return replay.Num{}
	}
	return replay.Some(float64(r.OutputTokens.V-1) / float64(r.DecodeUs.V) * 1e6)
}

// Log is a file of lines that survives restarts and kills: each line is written whole and synced.
type Log struct{ f *os.File }

// lineStart is how every line begins.
const lineStart = `{"at":`

// OpenLog opens or creates a log, locks it and reads its lines. An end that was torn off by a kill is cut away; a file that
// is no log is left as it is.
func OpenLog(path string) (*Log, []Line, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o640) //nolint:gosec // named by the user
	if err != nil {
		return nil, nil, fmt.Errorf("the log cannot be opened: %w", err)
	}
	held, err := tryLock(f)
	if err != nil {
		err = fmt.Errorf("%s cannot be locked: %w", path, err)
	} else if held {
		err = fmt.Errorf("another monitor writes to %s: name another file, or end that one", path)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	foreign := func(n int) error {
		return errors.Join(fmt.Errorf("%s, line %d, is no line of a monitor: name another file", path, n), f.Close())
	}
	var lines []Line
	whole := int64(0)
	r := bufio.NewReader(f)
	for n := 1; ; n++ {
		text, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			if torn := string(text); torn != "" && !strings.HasPrefix(torn, lineStart) && (len(lines) == 0 || !strings.HasPrefix(lineStart, torn)) {
				return nil, nil, foreign(n)
			} else if torn == "" {
				return &Log{f}, lines, nil
			}
			break
		}
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("the log cannot be read: %w", err), f.Close())
		}
		if len(bytes.TrimSpace(text)) > 0 {
			var l Line
			if err := json.Unmarshal(text, &l); err != nil || l.At.IsZero() {
				return nil, nil, foreign(n)
			}
			lines = append(lines, l)
		}
		whole += int64(len(text))
	}
	if err := f.Truncate(whole); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("the log cannot be written: %w", err), f.Close())
	}
	return &Log{f}, lines, nil
}

// Append writes a line.
func (l *Log) Append(line *Line) error {
	text, err := json.Marshal(line)
	if err != nil {
		return err
	}
	if _, err := l.f.Write(append(text, '\n')); err != nil {
		return fmt.Errorf("the log cannot be written: %w", err)
	}
	return l.f.Sync()
}

// Close closes the file.
func (l *Log) Close() error { return l.f.Close() }
