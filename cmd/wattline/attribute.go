package main

import (
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"wattline/cmd/wattline/internal/term"
	"wattline/gpu"
	"wattline/meter"
	ledger "wattline/meter/energy"
	"wattline/meter/energy/recording"
	"wattline/replay/table"
	"wattline/sink/attribution"
)

type attributeCmd struct {
	Dir  string `arg:"" help:"A folder that \"wattline serve --record\" wrote." placeholder:"DIR"`
	Rule string `help:"How the joules are divided: ${enum}." enum:"phase,time,token" default:"phase"`
	JSON bool   `help:"One JSON object a request, in the order of requests.jsonl, then the ledger's." name:"json"`

	Requests   string `help:"Attribute to the requests of this file of DIR instead of requests.jsonl: client.jsonl has them as their client saw them." placeholder:"NAME" default:"requests.jsonl"`
	Coalitions bool   `help:"The recording holds every coalition of a few requests: compare with their measured Shapley shares." hidden:""`
	Shape      string `help:"Use only some of what was recorded: ${enum}." enum:"best,counter,average" default:"best" hidden:""`
}

// maxUpstreams is how many upstreams a ledger tells apart, as sink/attribution has it.
const maxUpstreams = 8

// attributed is one request of a recording with its energy columns.
type attributed struct {
	index int
	tag   string
	rec   meter.Record
}

// Run divides a recording's joules among its requests, with the ledger that serve uses.
func (c *attributeCmd) Run(a *app) error {
	device, traffic, err := readRecording(c.Dir, cmp.Or(c.Requests, requestsFile))
	if err != nil {
		return err
	}
	sources := map[string]recording.Sources{"counter": recording.CounterOnly, "average": recording.AverageOnly}[c.Shape]
	opening, err := readOpening(c.Dir)
	if err != nil {
		return err
	}
	if c.Shape != "" && c.Shape != "best" || opening.Coefficients == nil {
		opening.Config = device.Config(sources)
	}
	l := ledger.New(opening.Config)
	for i := range maxUpstreams {
		var known ledger.Coefficients
		if i < len(opening.Coefficients) {
			known = opening.Coefficients[i]
		}
		l.AddUpstream(known, false)
	}
	recording.FeedTraffic(l, 0, device, traffic, 0, nil)
	results := make([]ledger.Result, len(traffic.Requests))
	rows := make([]attributed, len(traffic.Requests))
	for i, q := range traffic.Requests {
		rows[i] = attributed{index: i, tag: q.Tag, rec: meter.Record{EnergyQuality: meter.EnergyUnavailable}}
	}
	for r, ok := l.Next(); ok; r, ok = l.Next() {
		results[r.Request-1] = r
		fillEnergy(&rows[r.Request-1].rec, &r, c.Rule, opening.Source)
	}
	if c.Coalitions {
		return compareCoalitions(a.stdout, device, traffic, results)
	}
	total := newLedgerLine(cmp.Or(opening.Device, "0"), l.Balance(), c.Rule)
	if c.JSON {
		return writeAttributed(a.stdout, rows, total)
	}
	if opening.Simulated {
		fmt.Fprintln(a.stdout, "simulated: the joules are those of a simulated device")
	}
	printAttributed(a.stdout, traffic.Requests, rows, total, c.Rule)
	return nil
}

// readRecording reads the folder dir, and in it the requests of the named file.
func readRecording(dir, requests string) (*recording.Device, *recording.Traffic, error) {
	rec, err := gpu.ReadRecording(os.DirFS(dir))
	if err != nil {
		return nil, nil, fmt.Errorf("attribute: %s is not a recording (make one with `wattline serve --record DIR`): %w", dir, err)
	}
	d := &recording.Device{}
	for _, k := range rec.Looks {
		d.Readings = append(d.Readings, recording.Reading{
			Before: k.Before, After: k.After, Lo: k.Lo, Hi: k.Hi, EnergyUJ: k.Uj, HasEnergy: k.OK,
			AverageMW: k.AverageMw.V, HasAverage: k.AverageMw.Valid, TempC: k.TempC.V, HasTemp: k.TempC.Valid,
			Contended: k.Contended.V == 1, HasContended: k.Contended.Valid, Lost: k.Lost,
		})
	}
	for _, s := range rec.Ring {
		d.Samples = append(d.Samples, recording.Sample{At: s.At, MW: s.Mw})
	}
	t, err := readTraffic(filepath.Join(dir, requests))
	if err != nil {
		return nil, nil, fmt.Errorf("attribute: %w", err)
	}
	if len(t.Marks) > 0 {
		return d, t, nil
	}
	// Only a client knows why it sends: it may leave its marks beside what serve recorded.
	client, err := readTraffic(filepath.Join(dir, clientFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, nil, fmt.Errorf("attribute: %w", err)
	default:
		t.Marks = client.Marks
	}
	return d, t, nil
}

// requestsFile is what serve records of the requests.
const requestsFile = "requests.jsonl"

// clientFile is what meter/energy/hardware/traffic.py writes beside a recording.
const clientFile = "client.jsonl"

// readOpening reads what the ledger began with in line; the zero Opening where the recording is not serve's.
func readOpening(dir string) (o recording.Opening, err error) {
	text, err := os.ReadFile(filepath.Join(dir, openingFile)) //nolint:gosec // the user names it
	if errors.Is(err, fs.ErrNotExist) {
		return o, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &o)
	}
	if err != nil {
		return o, fmt.Errorf("attribute: %s: %w", openingFile, err)
	}
	return o, nil
}

// readTraffic reads path, or path.gz.
func readTraffic(path string) (t *recording.Traffic, err error) {
	f, err := os.Open(path) //nolint:gosec // the user names it
	if errors.Is(err, fs.ErrNotExist) {
		z, zerr := os.Open(path + ".gz") //nolint:gosec // likewise
		if zerr != nil {
			return nil, err
		}
		defer closing(z, &err)
		in, err := gzip.NewReader(z)
		if err != nil {
			return nil, fmt.Errorf("%s.gz: %w", path, err)
		}
		return recording.ReadRequests(in)
	}
	if err != nil {
		return nil, err
	}
	defer closing(f, &err)
	return recording.ReadRequests(f)
}

// fillEnergy writes a result into a row's energy columns. The two simple rules know neither active nor idle
// joules, nor an error: those columns are null then.
func fillEnergy(rec *meter.Record, r *ledger.Result, rule, source string) {
	if r.Quality != ledger.Unavailable {
		attribution.Write(rec, r)
		total := rec.GPUUj
		switch rule {
		case "time":
			total = rec.GPUTimeUj
		case "token":
			total = rec.GPUTokenUj
		}
		if rule != "phase" {
			*rec = meter.Record{GPUUj: total, GPUTimeUj: rec.GPUTimeUj, GPUTokenUj: rec.GPUTokenUj, GPUMeanMw: rec.GPUMeanMw}
		}
	}
	rec.EnergyQuality, rec.EnergyMethod, rec.EnergySource = r.Quality.String(), rule, r.Source
	if source != "" {
		rec.EnergySource = source + "/" + r.Source
	}
}

// ledgerLine is the account of the device: its three parts sum to the counter's delta.
type ledgerLine struct {
	Device         string `json:"device"`
	CounterDeltaUJ int64  `json:"counter_delta_uj"`
	RequestsUJ     int64  `json:"requests_uj"`
	IdleUJ         int64  `json:"idle_uj"`
	ResidualUJ     int64  `json:"residual_uj"`
}

func newLedgerLine(device string, b ledger.Balance, rule string) ledgerLine {
	n := ledgerLine{Device: device, CounterDeltaUJ: b.Counter, RequestsUJ: b.Phase, IdleUJ: b.Idle}
	switch rule {
	case "time":
		n.RequestsUJ = b.Time
	case "token":
		n.RequestsUJ = b.Token
	}
	n.ResidualUJ = n.CounterDeltaUJ - n.RequestsUJ - n.IdleUJ
	return n
}

// energyColumns are the columns that attribute prints, in the order of meter.Columns.
func energyColumns() []meter.Column {
	all := meter.Columns()
	var out []meter.Column
	for _, c := range all {
		switch c.Name {
		case "gpu_uj", "gpu_active_uj", "gpu_idle_uj", "gpu_prefill_uj", "gpu_decode_uj", "gpu_estimate_uj",
			"gpu_sigma_uj", "gpu_active_sigma_uj", "gpu_time_uj", "gpu_token_uj",
			"energy_quality", "energy_method", "energy_source", "gpu_mean_mw":
			out = append(out, c)
		}
	}
	return out
}

func writeAttributed(w io.Writer, rows []attributed, total ledgerLine) error {
	for i := range rows {
		r := &rows[i]
		tag, err := json.Marshal(r.tag)
		if err != nil {
			return err
		}
		line := fmt.Appendf(nil, `{"i":%d,"tag":%s`, r.index, tag)
		for _, c := range energyColumns() {
			v := []byte("null")
			if !c.Null(&r.rec) {
				if v, err = json.Marshal(c.Ptr(&r.rec)); err != nil {
					return err
				}
			}
			line = fmt.Appendf(line, `,%q:%s`, c.Name, v)
		}
		if _, err := w.Write(append(line, '}', '\n')); err != nil {
			return err
		}
	}
	return json.NewEncoder(w).Encode(map[string]ledgerLine{"ledger": total})
}

func printAttributed(w io.Writer, requests []recording.Request, rows []attributed, total ledgerLine, rule string) {
	t := table.New(w, "#", "tag", "tokens in", "out", "seconds", "joules", "± σ", "active", "idle", "prefill", "decode", "J/token", "by time", "by token", "quality")
	for i := range rows {
		q, r := &requests[i], &rows[i].rec
		var in, out, perToken meter.Int
		if m := q.Timings; m != nil {
			in, out = meter.Some(m.PromptN+m.CacheN), meter.Some(m.PredictedN)
			if r.GPUUj.Valid && m.PredictedN > 0 {
				perToken = meter.Some(r.GPUUj.V / m.PredictedN)
			}
		}
		t.Row(
			i, table.OrAbsent(rows[i].tag), term.Count(in), term.Count(out), fmt.Sprintf("%.2f", time.Duration(q.End-q.Send).Seconds()),
			joules(r.GPUUj), joules(r.GPUSigmaUj), joules(r.GPUActiveUj), joules(r.GPUIdleUj), joules(r.GPUPrefillUj),
			joules(r.GPUDecodeUj), joules(perToken), joules(r.GPUTimeUj), joules(r.GPUTokenUj), r.EnergyQuality,
		)
	}
	t.AlignRight(1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14)
	t.Render()
	j := func(uj int64) string { return fmt.Sprintf("%.1f J", float64(uj)/1e6) }
	fmt.Fprintf(w, "\nBy %s: requests %s + idle %s + residual %s = counter's delta %s\n",
		rule, j(total.RequestsUJ), j(total.IdleUJ), j(total.ResidualUJ), j(total.CounterDeltaUJ))
}

func joules(v meter.Int) string {
	if !v.Valid {
		return table.Absent
	}
	return table.Number(float64(v.V) / 1e6)
}

// compareCoalitions prints the ledger's shares beside the measured ones, and fails where they are farther
// apart than a release may be.
func compareCoalitions(w io.Writer, d *recording.Device, traffic *recording.Traffic, results []ledger.Result) error {
	shares, err := recording.Coalitions(d, traffic, results)
	if err != nil {
		return fmt.Errorf("attribute: %w", err)
	}
	percent := func(off float64) string { return fmt.Sprintf("%+.1f %%", 100*off) }
	t := table.New(w, "together", "request", "true J", "± error", "phase J", "off", "worst run", "by time", "by token")
	for i := range shares {
		s := &shares[i]
		t.Row(
			s.Coalition, s.Who, table.Number(s.True), table.Number(s.Error), table.Number(s.Phase), percent(s.Off(s.Phase)),
			percent(s.Off(s.WorstRun)), percent(s.Off(s.Time)), percent(s.Off(s.Token)),
		)
	}
	t.AlignRight(3, 4, 5, 6, 7, 8, 9)
	t.Render()
	fmt.Fprintf(w, "\nrms: phase %.1f %%, time %.1f %%, token %.1f %%\n",
		100*recording.RMS(shares, func(s *recording.Share) float64 { return s.Phase }),
		100*recording.RMS(shares, func(s *recording.Share) float64 { return s.Time }),
		100*recording.RMS(shares, func(s *recording.Share) float64 { return s.Token }))
	if bad := recording.Exceeding(shares); len(bad) > 0 {
		return &exitError{exitInvalid, fmt.Errorf("attribute: %s", strings.Join(bad, "; "))}
	}
	return nil
}
