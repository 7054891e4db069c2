package replay

import (
	"time"

	"wattline/meter"
)

// Span is when one cell ran in one trial.
type Span struct {
	Trial int       `json:"trial"`
	Cell  int       `json:"cell"`
	From  time.Time `json:"from"`
	To    time.Time `json:"to"`
	// CPUSeconds is the client's own CPU time, on all cores.
	CPUSeconds Num `json:"client_cpu_s"`
}

// Rows are the rows of a trace's records, nil where there is none.
func (r *Run) Rows() []*meter.Record {
	out := make([]*meter.Record, r.Plan.Spec.Requests)
	for _, e := range r.Exchanges {
		if e.Index < len(out) && !e.Failed() {
			out[e.Index] = e.InLine
		}
	}
	return out
}

// Run is everything that was recorded of a run of a plan.
type Run struct {
	Plan      *Plan         `json:"plan"`
	StartedAt time.Time     `json:"started_at"`
	EndedAt   time.Time     `json:"ended_at"`
	Server    *Server       `json:"server"`       // before
	After     *Server       `json:"server_after"` // the same question afterwards; null: no answer
	Exchanges []*Exchange   `json:"-"`            // in order of ending
	Warmups   []*Exchange   `json:"-"`
	Spans     []Span        `json:"spans"`
	Skipped   []SkippedCell `json:"skipped,omitempty"` // by the budget

	// Joined reports whether wattline was asked for its rows. OtherTraffic lists the requests of other clients that
	// passed the proxy between StartedAt and EndedAt; Gauge is how many requests the proxy had in flight.
	Joined       bool         `json:"joined"`
	OtherTraffic []string     `json:"foreign,omitempty"`
	Gauge        []GaugePoint `json:"-"`
	Power        Power        `json:"-"`

	// Objectives are the latency limits of goodput; empty: no goodput is computed.
	Objectives []Objective `json:"objectives,omitempty"`

	// NotIdle are cells after which the device's power did not come back to the idle power before the run.
	NotIdle []string `json:"restless,omitempty"`

	Interrupted bool   `json:"interrupted,omitempty"` // by the user
	Failure     string `json:"failure,omitempty"`     // what ended it early
}
