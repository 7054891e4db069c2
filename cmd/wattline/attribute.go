package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"wattline/cmd/wattline/internal/term"
	"wattline/meter"
	"wattline/meter/energy"
	"wattline/meter/energy/recording"
	"wattline/replay/table"
	"wattline/sink/attribution"
)

type attributeCmd struct {
	Dir  string `arg:"" optional:"" help:"Folder that \"wattline serve --record\" wrote." placeholder:"DIR"`
	Rule string `help:"Rule to divide the joules by: ${enum}." enum:"phase,time,token" default:"phase"`
	JSON bool   `help:"Print one JSON object per request, in the order of requests.jsonl, and one for the ledger." name:"json"`

	Score   string `help:"Score the ledger and simpler methods against the truth: a recording with truth.csv, or a folder of such recordings. meter/energy/RULER.md has the format." placeholder:"TRUTH"`
	Answers string `help:"With --score: score another tool too, from a CSV of request, joules, sigma." placeholder:"FILE"`
	Truth   bool   `help:"Print the truth that DIR has measured, as CSV." hidden:""`

	Requests   string `help:"Take the requests from this file of DIR. client.jsonl has them as the client saw them." placeholder:"NAME" default:"requests.jsonl"`
	Coalitions bool   `help:"Compare with measured Shapley shares; the recording must have every coalition of a few requests." hidden:""`
	Shape      string `help:"Power readings of the recording to use: ${enum}." enum:"best,counter,average" default:"best" hidden:""`
}

// Run divides the joules of a recording among its requests, with the same ledger as serve.
func (c *attributeCmd) Run(a *app) error {
	if c.Score != "" {
		return printScores(a.stdout, c)
	}
	if c.Dir == "" {
		return &exitError{exitUsage, errors.New("attribute: name the folder of a recording (make one with `wattline serve --record DIR`), or use --score")}
	}
	rec, err := attribution.ReadRecording(c.Dir, c.Requests)
	if err != nil {
		return err
	}
	if c.Truth {
		return rec.WriteTruth(a.stdout)
	}
	sources := map[string]recording.Sources{"counter": recording.CounterOnly, "average": recording.AverageOnly}[c.Shape]
	got := rec.Attribute(c.Rule, sources)
	if c.Coalitions {
		return compareCoalitions(a.stdout, rec, got.Results)
	}
	total := newLedgerLine(cmp.Or(rec.Opening.Device, "0"), got.Balance, c.Rule)
	if c.JSON {
		return writeAttributed(a.stdout, rec.Traffic.Requests, got.Rows, total)
	}
	if rec.Opening.Simulated {
		fmt.Fprintln(a.stdout, "simulated: the joules are those of a simulated device")
	}
	printAttributed(a.stdout, rec.Traffic.Requests, got.Rows, total, c.Rule)
	return nil
}

// ledgerLine is the energy of a device. The requests', the idle and the residual part sum to the counter's delta.
type ledgerLine struct {
	Device         string `json:"device"`
	CounterDeltaUJ int64  `json:"counter_delta_uj"`
	RequestsUJ     int64  `json:"requests_uj"`
	IdleUJ         int64  `json:"idle_uj"`
	ResidualUJ     int64  `json:"residual_uj"`
}

func newLedgerLine(device string, b energy.Balance, rule string) ledgerLine {
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

func writeAttributed(w io.Writer, requests []recording.Request, rows []meter.Record, total ledgerLine) error {
	for i := range rows {
		r := &rows[i]
		tag, err := json.Marshal(requests[i].Tag)
		if err != nil {
			return err
		}
		line := fmt.Appendf(nil, `{"i":%d,"tag":%s`, i, tag)
		for _, c := range energyColumns() {
			v := []byte("null")
			if !c.Null(r) {
				if v, err = json.Marshal(c.Ptr(r)); err != nil {
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

func printAttributed(w io.Writer, requests []recording.Request, rows []meter.Record, total ledgerLine, rule string) {
	t := table.New(w, "#", "tag", "tokens in", "out", "seconds", "joules", "± σ", "active", "idle", "prefill", "decode", "J/token", "by time", "by token", "quality")
	for i := range rows {
		q, r := &requests[i], &rows[i]
		var in, out, perToken meter.Int
		if m := q.Timings; m != nil {
			in, out = meter.Some(m.PromptN+m.CacheN), meter.Some(m.PredictedN)
			if r.GPUUj.Valid && m.PredictedN > 0 {
				perToken = meter.Some(r.GPUUj.V / m.PredictedN)
			}
		}
		t.Row(
			i, table.OrAbsent(q.Tag), term.Count(in), term.Count(out), fmt.Sprintf("%.2f", time.Duration(q.End-q.Send).Seconds()),
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

// compareCoalitions prints the ledger's shares beside the measured ones, and fails if they differ by more than the
// release limit.
func compareCoalitions(w io.Writer, rec *attribution.Recording, results []energy.Result) error {
	shares, err := recording.Coalitions(rec.Device, rec.Traffic, results)
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
