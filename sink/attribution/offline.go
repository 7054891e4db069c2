package attribution

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"wattline/gpu"
	"wattline/meter"
	"wattline/meter/energy"
	"wattline/meter/energy/recording"
)

// The files of a recording beside those of package gpu.
const (
	requestsFile = "requests.jsonl" // the requests as wattline saw them
	clientFile   = "client.jsonl"   // as their client saw them; meter/energy/hardware/traffic.py writes it
	openingFile  = "device.json"    // what the ledger began with
)

// Recording is one device's part of what `wattline serve --record` wrote.
type Recording struct {
	Device  *recording.Device
	Traffic *recording.Traffic
	Opening recording.Opening // zero where the recording is not wattline's own
}

// ReadRecording reads the folder dir, and in it the requests of the named file ("": those that wattline recorded).
func ReadRecording(dir, requests string) (*Recording, error) {
	rec, err := gpu.ReadRecording(os.DirFS(dir))
	if err != nil {
		return nil, fmt.Errorf("attribute: %s is not a recording (make one with `wattline serve --record DIR`): %w", dir, err)
	}
	r := &Recording{Device: deviceOf(rec)}
	if requests == "" {
		requests = requestsFile
	}
	if r.Traffic, err = readTraffic(filepath.Join(dir, requests)); err != nil {
		return nil, fmt.Errorf("attribute: %w", err)
	}
	if len(r.Traffic.Marks) == 0 { // only a client knows why it sends: it may have left its marks
		client, err := readTraffic(filepath.Join(dir, clientFile))
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, fmt.Errorf("attribute: %w", err)
		default:
			r.Traffic.Marks = client.Marks
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, openingFile)) //nolint:gosec // the user names it
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &r.Opening)
	}
	if err != nil {
		return nil, fmt.Errorf("attribute: %s: %w", openingFile, err)
	}
	return r, nil
}

// deviceOf converts a recording's readings.
func deviceOf(rec *gpu.Recording) *recording.Device {
	d := &recording.Device{}
	for _, k := range rec.Reads {
		d.Readings = append(d.Readings, recording.Reading{
			Before: k.Before, After: k.After, Lo: k.Lo, Hi: k.Hi, EnergyUJ: k.Uj, HasEnergy: k.OK,
			AverageMW: k.AverageMw.V, HasAverage: k.AverageMw.Valid, TempC: k.TempC.V, HasTemp: k.TempC.Valid,
			Contended: k.Contended.V == 1, HasContended: k.Contended.Valid, Lost: k.Lost,
		})
	}
	for _, s := range rec.Buffer {
		d.Samples = append(d.Samples, recording.Sample{At: s.At, MW: s.Mw})
	}
	return d
}

// readTraffic reads path, or path.gz.
func readTraffic(path string) (*recording.Traffic, error) {
	f, err := openPlainOrGzip(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	return recording.ReadRequests(f)
}

// Attributed is a recording's joules divided among its requests, in the order of its requests.
type Attributed struct {
	Rows    []meter.Record // only their energy columns are set
	Results []energy.Result
	Balance energy.Balance
	IdleMW  float64 // the idle draw as the ledger learnt it
}

// Attribute divides the joules with the ledger that serve uses. rule says which division the rows show: "phase", "time"
// or "token". Other sources than recording.Best are used as if the device had no better ones.
func (r *Recording) Attribute(rule string, sources recording.Sources) *Attributed {
	cfg := r.Opening.Config
	if sources != recording.Best || r.Opening.Coefficients == nil {
		cfg = r.Device.Config(sources)
	}
	l := newLedger(cfg, r.Opening.Coefficients)
	recording.FeedTraffic(l, 0, r.Device, r.Traffic, 0, nil)
	n := len(r.Traffic.Requests)
	a := &Attributed{Rows: make([]meter.Record, n), Results: make([]energy.Result, n)}
	for i := range a.Rows {
		a.Rows[i].EnergyQuality = meter.EnergyUnavailable
	}
	for x, ok := l.Next(); ok; x, ok = l.Next() {
		source := x.Source
		if r.Opening.Source != "" {
			source = r.Opening.Source + "/" + source
		}
		rec := &a.Rows[x.Request-1]
		fillResult(rec, &x, rule, source)
		onlyRule(rec, rule)
		a.Results[x.Request-1] = x
	}
	a.Balance, a.IdleMW = l.Balance(), l.Baseline().BaseMW
	return a
}

// onlyRule leaves what a simple rule knows: neither active nor idle joules, nor an error.
func onlyRule(rec *meter.Record, rule string) {
	total := rec.GPUTimeUj
	switch rule {
	case method:
		return
	case "token":
		total = rec.GPUTokenUj
	}
	*rec = meter.Record{
		GPUUj: total, GPUTimeUj: rec.GPUTimeUj, GPUTokenUj: rec.GPUTokenUj, GPUMeanMw: rec.GPUMeanMw,
		EnergyQuality: rec.EnergyQuality, EnergyMethod: rec.EnergyMethod, EnergySource: rec.EnergySource,
	}
}
