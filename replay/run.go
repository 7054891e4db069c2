package replay

import "time"

// Span is when one cell ran in one trial.
type Span struct {
	Trial int       `json:"trial"`
	Cell  int       `json:"cell"`
	From  time.Time `json:"from"`
	To    time.Time `json:"to"`
	// CPUSeconds is what the client itself used meanwhile, on all cores.
	CPUSeconds Num `json:"client_cpu_s"`
}

// Run is everything that a run of a plan left behind.
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

	// Joined is whether the rows measured in line could be asked for; Foreign names the requests of others
	// that passed the proxy between StartedAt and EndedAt; Gauge is what its gauge showed.
	Joined       bool         `json:"joined"`
	OtherTraffic []string     `json:"foreign,omitempty"`
	Gauge        []GaugePoint `json:"-"`
	Power        Power        `json:"-"`

	// Objectives are what the user asked the replies to keep; none: there is no goodput.
	Objectives []Objective `json:"objectives,omitempty"`

	// Restless are cells after which the device's power did not come back to where it was.
	NotIdle []string `json:"restless,omitempty"`

	Interrupted bool   `json:"interrupted,omitempty"` // by the user
	Failure     string `json:"failure,omitempty"`     // what ended it early
}
