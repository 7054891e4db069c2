package console

import (
	"time"

	"wattline/meter"
	"wattline/sink"
)

// phase is what a request in flight is at.
func (r *LiveRequest) phase() string {
	switch {
	case r.SentAt.IsZero():
		return "sending"
	case !r.FirstAt.IsZero():
		return "decode"
	case !r.HeadedAt.IsZero() || r.Computes && !r.Streams:
		return "prefill"
	default:
		return "queue"
	}
}

// computing are the phases in which it computes so far; ok is false before.
func (r *LiveRequest) computing(now time.Time) (out [2]interval, ok bool) {
	if !r.Computes || r.SentAt.IsZero() {
		return out, false
	}
	begin := r.HeadedAt
	if !r.Streams {
		begin = r.SentAt
	}
	if begin.IsZero() {
		return out, false
	}
	out[0] = interval{begin.UnixNano(), now.UnixNano()}
	if !r.FirstAt.IsZero() {
		out[0].to = r.FirstAt.UnixNano()
		out[1] = interval{out[0].to, now.UnixNano()}
	}
	return out, true
}

// phaseBegin is a phase of a request event.
type phaseBegin struct {
	Phase string    `json:"phase"`
	At    time.Time `json:"at"`
}

// requestEvent is a request in flight.
type requestEvent struct {
	ID        string       `json:"id"`
	Route     string       `json:"route"`
	Agent     *string      `json:"agent"`
	Session   *string      `json:"session"`
	Model     *string      `json:"model"`
	Method    string       `json:"method"`
	Path      string       `json:"path"`
	Computes  bool         `json:"computes"`
	Stream    bool         `json:"stream"`
	Slot      meter.Int    `json:"slot"`
	Prompt    meter.Int    `json:"prompt_tokens"`
	Phase     string       `json:"phase"`
	StartedAt time.Time    `json:"started_at"`
	Phases    []phaseBegin `json:"phases"`
	Events    int64        `json:"output_events"`
	PerSecond *float64     `json:"events_per_second"` // since the first
	Done      bool         `json:"done"`
}

// tell is the event of a request.
func (st *liveState) tell(done bool) *requestEvent {
	r := &st.request
	e := &requestEvent{
		ID: r.ID, Route: r.Route, Agent: orNull(r.Agent), Session: orNull(r.Session), Model: orNull(r.Model), Method: r.Method, Path: r.Path,
		Computes: r.Computes, Stream: r.Streams, Slot: r.Slot, Prompt: r.Prompt, Phase: r.phase(), StartedAt: r.StartedAt.UTC(), Phases: []phaseBegin{}, Events: r.Events, Done: done,
	}
	add := func(phase string, at time.Time) {
		if !at.IsZero() {
			e.Phases = append(e.Phases, phaseBegin{phase, at.UTC()})
		}
	}
	if r.Computes && !r.Streams {
		add("prefill", r.SentAt)
	} else {
		add("queue", r.SentAt)
		add("prefill", r.HeadedAt)
		add("decode", r.FirstAt)
	}
	if now := time.Now(); r.Events > 1 && now.After(r.FirstAt) && !r.FirstAt.IsZero() {
		rate := float64(r.Events-1) / now.Sub(r.FirstAt).Seconds()
		e.PerSecond = &rate
	}
	return e
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// configEvent is a row of table configs with what changed since the one before of the same server: the columns that differ,
// "restart" where none does, nothing for the first.
func configEvent(before []*sink.ServerConfig, c *sink.ServerConfig) inOrder {
	changed := []string{}
	for i := len(before) - 1; i >= 0; i-- {
		if before[i].Upstream == c.Upstream && before[i].Instance == c.Instance {
			changed = differences(before[i], c)
			break
		}
	}
	var out inOrder
	for _, col := range sink.ConfigColumns() {
		out = append(out, field{col.Name, nullable(col.Ptr(c))})
	}
	return append(out, field{"changed", changed})
}

// differences are the columns in which two configurations differ.
func differences(a, b *sink.ServerConfig) (out []string) {
	for _, col := range sink.ConfigColumns()[3:] { // all but config_id, at and instance
		if text(col.Ptr(a)) != text(col.Ptr(b)) {
			out = append(out, col.Name)
		}
	}
	if out == nil {
		out = []string{"restart"}
	}
	return out
}
