package console

import (
	"context"
	"time"

	"github.com/valyala/fasthttp"

	"wattline/meter"
	"wattline/sink"
	"wattline/sink/queries"
)

// Energy is the answer of /api/energy: what the devices drew between two moments. Everything is empty
// where nothing is measured.
type Energy struct {
	Devices []EnergyDevice
	Power   []*sink.Power  // by the second, once old by the minute
	Ledger  []*sink.Ledger // settled windows
	Curves  []Curve
}

// EnergyDevice describes a device.
type EnergyDevice struct {
	Device       string    `json:"device"` // as in gpu_devices of a request
	Name         string    `json:"name"`
	Driver       string    `json:"driver"`
	Source       string    `json:"source"`
	Simulated    bool      `json:"simulated"`
	PowerLimitMw meter.Int `json:"power_limit_mw"` // newest of Power
}

// Curve is a device's power in steps: MilliWatts at From, From + StepUs, ... as the load drew it, the
// source's lag removed. There is one only where the source is that fine and left no hole.
type Curve struct {
	Device     string    `json:"device"`
	From       time.Time `json:"from"`
	StepUs     int64     `json:"step_us"`
	MilliWatts []int64   `json:"mw"`
}

// maxEnergySpan bounds one answer of /api/energy.
const maxEnergySpan = 6 * time.Hour

// energy answers ?from=&to= (RFC 3339; default: the last minute).
func (s *Server) energy(c context.Context, ctx *fasthttp.RequestCtx) (any, error) {
	p, err := parseParams(ctx, "from", "to", "bucket", "by", "tz", "device")
	if err != nil {
		return nil, err
	}
	if p.values.Has("bucket") {
		return s.series(c, p)
	}
	to := p.moment("to")
	if to.IsZero() {
		to = time.Now()
	}
	from := p.moment("from")
	if from.IsZero() {
		from = to.Add(-time.Minute)
	}
	switch {
	case p.err != nil:
		return nil, p.err
	case !from.Before(to) || to.Sub(from) > maxEnergySpan:
		return nil, badRequest("from must lie before to, by at most %v", maxEnergySpan)
	case s.cfg.Energy == nil:
		e := &Energy{}
		if e.Power, err = s.cfg.Engine.Power(c, from, to); err == nil {
			e.Ledger, err = s.cfg.Engine.Ledger(c, from, to)
		}
		return e.answer(), err
	}
	e, err := s.cfg.Energy(c, from, to)
	if err != nil {
		return nil, err
	}
	return e.answer(), nil
}

// series answers energy in buckets.
func (s *Server) series(c context.Context, p *params) (any, error) {
	q := queries.Series{From: p.moment("from"), To: p.moment("to"), Bucket: p.text("bucket"), By: p.text("by"), Device: p.text("device")}
	var err error
	if q.Zone, err = time.LoadLocation(p.text("tz")); err != nil {
		p.fail("tz must be a time zone such as Europe/Berlin, not %q", p.text("tz"))
		q.Zone = time.UTC
	}
	if q.To.IsZero() {
		q.To = time.Now()
	}
	if q.From.IsZero() {
		q.From = q.To.Add(-24 * time.Hour)
	}
	if p.err != nil {
		return nil, p.err
	}
	if err := q.Check(); err != nil {
		return nil, badRequest("%v", err)
	}
	return q.Read(c, s.cfg.Engine)
}

// answer is the JSON object: rows with the columns of their tables.
func (e *Energy) answer() map[string]any {
	limits := map[string]meter.Int{}
	for _, p := range e.Power {
		if p.LimitMw.Valid {
			limits[p.Device] = p.LimitMw
		}
	}
	devices := make([]EnergyDevice, len(e.Devices))
	for i, d := range e.Devices {
		devices[i], devices[i].PowerLimitMw = d, limits[d.Device]
	}
	curves := e.Curves
	if curves == nil {
		curves = []Curve{}
	}
	return map[string]any{
		"devices": devices, "power": objects(sink.PowerColumns(), e.Power), "ledger": objects(sink.LedgerColumns(), e.Ledger), "curves": curves,
	}
}

func objects[T any](columns []sink.Column[T], rows []*T) []map[string]any {
	out := make([]map[string]any, len(rows))
	for i, row := range rows {
		out[i] = make(map[string]any, len(columns))
		for _, c := range columns {
			out[i][c.Name] = c.Ptr(row)
		}
	}
	return out
}
