package top

import (
	"cmp"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"time"

	"wattline/meter"
)

// state is what /api/live has told.
type state struct {
	hello    hello
	skew     time.Duration // the server's clock minus ours
	ready    bool          // the past is complete
	bye      string        // why the server ends; "": it has not said that it does
	requests map[string]*request
	rows     map[string]*meter.Record // of the last minutes
	devices  map[string]*steps
	gaps     map[string]string    // by device that cannot be read: the reason
	contexts map[string]meter.Int // by upstream: tokens of a slot's context
}

// hello is what the page of an event of that kind needs.
type hello struct {
	Now    time.Time            `json:"now"`
	Slots  map[string]meter.Int `json:"slots"`
	Routes []struct {
		Route    string `json:"route"`
		Upstream string `json:"upstream"`
		URL      string `json:"url"`
	} `json:"routes"`
	Devices []device `json:"devices"`
}

type device struct {
	Device    string    `json:"device"`
	Name      string    `json:"name"`
	Source    string    `json:"source"`
	Simulated bool      `json:"simulated"`
	LimitMw   meter.Int `json:"power_limit_mw"`
}

// request is a request in flight.
type request struct {
	ID        string     `json:"id"`
	Route     string     `json:"route"`
	Agent     *string    `json:"agent"`
	Session   *string    `json:"session"`
	Computes  bool       `json:"computes"`
	Stream    bool       `json:"stream"`
	Slot      meter.Int  `json:"slot"`
	Prompt    meter.Int  `json:"prompt_tokens"`
	Phase     string     `json:"phase"`
	StartedAt time.Time  `json:"started_at"`
	Phases    []struct { // the last one is the present
		At time.Time `json:"at"`
	} `json:"phases"`
	Events    int64    `json:"output_events"`
	PerSecond *float64 `json:"events_per_second"`
	Done      bool     `json:"done"`
}

// power is a device's power in steps.
type power struct {
	Device     string             `json:"device"`
	From       time.Time          `json:"from"`
	StepUs     int64              `json:"step_us"`
	MilliWatts []int64            `json:"mw"`
	Idle       []int64            `json:"idle_mw"`
	Residual   []int64            `json:"residual_mw"`
	Requests   map[string][]int64 `json:"requests"`
}

// steps are a device's newest steps.
type steps struct {
	step time.Duration
	last int64 // the newest
	at   map[int64]step
}

type step struct {
	mw, idle, residual int64 // mw = idle + residual + requests
	requests           map[string]int64
}

// How much of the past counts.
const (
	keepSteps = 5 * time.Second
	average   = time.Second      // of power
	stale     = 10 * time.Second // power that is older says nothing of now
	perToken  = 2 * time.Minute  // of rows, for joules a token
)

func newState() *state {
	return &state{requests: map[string]*request{}, rows: map[string]*meter.Record{}, devices: map[string]*steps{}, gaps: map[string]string{}, contexts: map[string]meter.Int{}}
}

// take takes one event; now is our time.
func (s *state) take(kind string, data []byte, now time.Time) error {
	switch kind {
	case "hello":
		*s = *newState()
		if err := json.Unmarshal(data, &s.hello); err != nil {
			return err
		}
		s.skew = s.hello.Now.Sub(now)
	case "ready":
		s.ready = true
	case "config":
		var c struct {
			Upstream string    `json:"upstream"`
			Context  meter.Int `json:"context_tokens"`
			Slots    meter.Int `json:"slots"`
		}
		if err := json.Unmarshal(data, &c); err != nil {
			return err
		}
		s.contexts[c.Upstream] = c.Context
		for _, r := range s.hello.Routes {
			if c.Slots.Valid && r.Upstream == c.Upstream && s.hello.Slots != nil {
				s.hello.Slots[r.Route] = c.Slots
			}
		}
	case "row":
		rec := &meter.Record{}
		if err := json.Unmarshal(data, rec); err != nil {
			return err
		}
		delete(s.requests, rec.ID)
		if rec.StartedAt.After(now.Add(s.skew - perToken)) {
			s.rows[rec.ID] = rec
		}
	case "request":
		r := &request{}
		if err := json.Unmarshal(data, r); err != nil {
			return err
		}
		if s.requests[r.ID] = r; r.Done || s.rows[r.ID] != nil {
			delete(s.requests, r.ID)
		}
	case "power":
		p := &power{}
		if err := json.Unmarshal(data, p); err != nil {
			return err
		}
		s.power(p)
	case "gap":
		var g struct {
			Device string     `json:"device"`
			To     *time.Time `json:"to"`
			Reason string     `json:"reason"`
		}
		if err := json.Unmarshal(data, &g); err != nil {
			return err
		}
		if s.gaps[g.Device] = g.Reason; g.To != nil {
			delete(s.gaps, g.Device)
		}
	case "bye":
		var b struct {
			Reason string `json:"reason"`
		}
		if err := json.Unmarshal(data, &b); err != nil {
			return err
		}
		s.bye = b.Reason
	}
	return nil
}

func (s *state) power(p *power) {
	d := s.devices[p.Device]
	if d == nil {
		d = &steps{step: max(time.Duration(p.StepUs)*time.Microsecond, time.Millisecond), at: map[int64]step{}}
		s.devices[p.Device] = d
	}
	first := p.From.UnixNano() / int64(d.step)
	for i, mw := range p.MilliWatts {
		if i >= len(p.Idle) || i >= len(p.Residual) {
			break
		}
		one := step{mw: mw, idle: p.Idle[i], residual: p.Residual[i], requests: map[string]int64{}}
		for id, list := range p.Requests {
			if i < len(list) && list[i] != 0 {
				one.requests[id] = list[i]
			}
		}
		d.at[first+int64(i)] = one
		d.last = max(d.last, first+int64(i))
	}
	maps.DeleteFunc(d.at, func(i int64, _ step) bool { return i < d.last-int64(keepSteps/d.step) })
}

// View is what a server does at one moment. Unknown is null.
type View struct {
	At              time.Time `json:"at"`
	PowerMw         meter.Int `json:"power_mw"` // of all devices: idle + residual + ended + the requests' active_mw
	IdleMw          meter.Int `json:"idle_mw"`
	ResidualMw      meter.Int `json:"residual_mw"`
	EndedMw         meter.Int `json:"ended_mw"` // of requests that have just ended
	Simulated       bool      `json:"simulated"`
	TokensPerSecond float64   `json:"tokens_per_second"` // output events a second, over the requests in decode
	JPerToken       *float64  `json:"j_per_token"`       // over the rows of two minutes: joules / output tokens
	JPerTokenSigma  *float64  `json:"j_per_token_sigma"`
	Slots           meter.Int `json:"slots"`
	Running         []Running `json:"running"`
	Queue           []Waiting `json:"queue"`
	Devices         []Device  `json:"devices"`

	url string // for clients
}

// Running is a request for which the server computes.
type Running struct {
	Who
	Slot            meter.Int `json:"slot"`
	Stream          bool      `json:"stream"` // an answer in one piece does not show whether it waits, or at what it is
	PhaseUs         int64     `json:"phase_us"`
	TokensPerSecond *float64  `json:"tokens_per_second"`
	OutputEvents    int64     `json:"output_events"`
	ContextTokens   meter.Int `json:"context_tokens"` // of the prompt and generated
	ContextLimit    meter.Int `json:"context_limit"`
	ActiveMw        meter.Int `json:"active_mw"` // its share, without the idle draw
}

// Who names a request.
type Who struct {
	ID      string  `json:"id"`
	Route   string  `json:"route"`
	Agent   *string `json:"agent"`
	Session *string `json:"session"`
	Phase   string  `json:"phase"`
}

// Waiting is a request that the server has not begun.
type Waiting struct {
	Who
	WaitedUs int64 `json:"waited_us"`
	Behind   []Who `json:"behind"` // what may keep it waiting
}

// Device is a device's power, the mean of the last second.
type Device struct {
	Device    string    `json:"device"`
	Name      string    `json:"name"`
	Source    string    `json:"source"`
	Simulated bool      `json:"simulated"`
	PowerMw   meter.Int `json:"power_mw"`
	IdleMw    meter.Int `json:"idle_mw"`
	LimitMw   meter.Int `json:"power_limit_mw"`
	Reason    string    `json:"reason,omitempty"` // why it cannot be read
}

// view is the present.
func (s *state) view(now time.Time) *View {
	now = now.Add(s.skew)
	v := &View{At: now.UTC().Truncate(time.Millisecond), Running: []Running{}, Queue: []Waiting{}, Devices: []Device{}}
	if len(s.hello.Routes) > 0 {
		v.url = s.hello.Routes[0].URL
	}
	for _, n := range s.hello.Slots {
		v.Slots = meter.Some(v.Slots.V + n.V)
	}
	shares := s.measure(v, now)
	var waiting []*request
	for _, r := range s.inOrder() {
		switch r.Phase {
		case "queue", "sending":
			waiting = append(waiting, r)
		default:
			v.Running = append(v.Running, s.running(r, now, shares))
			if r.PerSecond != nil && r.Phase == "decode" {
				v.TokensPerSecond += *r.PerSecond
			}
		}
	}
	slices.SortStableFunc(v.Running, func(a, b Running) int {
		order := func(r Running) int64 {
			if r.Slot.Valid {
				return r.Slot.V
			}
			return math.MaxInt64
		}
		return cmp.Or(cmp.Compare(a.Route, b.Route), cmp.Compare(order(a), order(b)))
	})
	for i, r := range waiting {
		w := Waiting{Who: r.who(), WaitedUs: max(0, now.Sub(r.since()).Microseconds())}
		w.Behind = s.behind(r, v, waiting[:i])
		v.Queue = append(v.Queue, w)
	}
	s.perToken(v, now)
	return v
}

// inOrder are the requests for which the model runs, the oldest first.
func (s *state) inOrder() []*request {
	var out []*request
	for _, r := range s.requests {
		if r.Computes || r.Phase == "sending" {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b *request) int {
		return cmp.Or(a.StartedAt.Compare(b.StartedAt), cmp.Compare(a.ID, b.ID))
	})
	return out
}

func (r *request) who() Who { return Who{r.ID, r.Route, r.Agent, r.Session, r.Phase} }

// since is when its phase began.
func (r *request) since() time.Time {
	if n := len(r.Phases); n > 0 {
		return r.Phases[n-1].At
	}
	return r.StartedAt
}

func (s *state) running(r *request, now time.Time, shares map[string]int64) Running {
	out := Running{
		Who: r.who(), Slot: r.Slot, Stream: r.Stream, PhaseUs: max(0, now.Sub(r.since()).Microseconds()),
		TokensPerSecond: r.PerSecond, OutputEvents: r.Events,
	}
	if r.Prompt.Valid {
		out.ContextTokens = meter.Some(r.Prompt.V + r.Events)
	}
	for _, route := range s.hello.Routes {
		if route.Route == r.Route {
			out.ContextLimit = s.contexts[route.Upstream]
		}
	}
	if shares != nil {
		out.ActiveMw = meter.Some(shares[r.ID])
	}
	return out
}

// behind are the requests that may keep one waiting: prompts under way, whoever holds a slot where all are held, and those
// that came before it.
func (s *state) behind(r *request, v *View, before []*request) []Who {
	out := []Who{}
	holders := 0
	for _, other := range v.Running {
		if other.Route == r.Route {
			holders++
		}
	}
	slots := s.hello.Slots[r.Route]
	full := !slots.Valid || int64(holders) >= slots.V
	for _, other := range v.Running {
		if other.Route == r.Route && (full || other.Phase == "prefill") {
			out = append(out, other.Who)
		}
	}
	for _, other := range before {
		if other.Route == r.Route && other.Phase == "queue" {
			out = append(out, other.who())
		}
	}
	return out
}

// measure sets the power, and returns the requests' shares; nil where no device tells its power.
func (s *state) measure(v *View, now time.Time) map[string]int64 {
	var shares map[string]int64
	idleUnknown := false // of a device that counts in v.PowerMw
	add := func(to *meter.Int, mw int64) { *to = meter.Some(to.V + mw) }
	for _, d := range s.hello.Devices {
		one := Device{Device: d.Device, Name: d.Name, Source: d.Source, Simulated: d.Simulated, LimitMw: d.LimitMw, Reason: s.gaps[d.Device]}
		if mean, ok := s.devices[d.Device].mean(now); ok && one.Reason == "" {
			if shares == nil {
				shares = map[string]int64{}
			}
			one.PowerMw = meter.Some(mean.mw)
			if mean.idle > 0 { // 0 is "not known yet"
				one.IdleMw = meter.Some(mean.idle)
			} else {
				idleUnknown = true
			}
			v.Simulated = v.Simulated || d.Simulated
			add(&v.PowerMw, mean.mw)
			add(&v.IdleMw, mean.idle)
			add(&v.ResidualMw, mean.residual)
			add(&v.EndedMw, 0)
			for id, mw := range mean.requests {
				if s.requests[id] == nil {
					add(&v.EndedMw, mw)
				} else {
					shares[id] += mw
				}
			}
		}
		v.Devices = append(v.Devices, one)
	}
	if idleUnknown {
		v.IdleMw = meter.Int{}
	}
	return shares
}

// mean is the mean of the newest second; ok is false where nothing new was told.
func (d *steps) mean(now time.Time) (out step, ok bool) {
	if d == nil || now.Sub(time.Unix(0, d.last*int64(d.step))) > stale {
		return out, false
	}
	n := int64(0)
	out.requests = map[string]int64{}
	for i, one := range d.at {
		if i <= d.last-int64(average/d.step) {
			continue
		}
		n++
		out.mw, out.idle = out.mw+one.mw, out.idle+one.idle
		for id, mw := range one.requests {
			out.requests[id] += mw
		}
	}
	if n == 0 {
		return out, false
	}
	out.mw, out.idle = out.mw/n, out.idle/n
	out.residual = out.mw - out.idle // what the division of the others rounds off is here
	for id := range out.requests {
		out.requests[id] /= n
		out.residual -= out.requests[id]
	}
	return out, true
}

// perToken sets the joules a token of the last minutes.
func (s *state) perToken(v *View, now time.Time) {
	var uj, variance, tokens float64
	for id, rec := range s.rows {
		if rec.StartedAt.Before(now.Add(-perToken)) {
			delete(s.rows, id)
			continue
		}
		energy, sigma := rec.EnergyUj(), rec.EnergySigmaUj()
		if !energy.Valid {
			energy = rec.GPUEstimateUj
		}
		if !energy.Valid || rec.OutputTokens.V <= 0 {
			continue
		}
		uj, tokens = uj+float64(energy.V), tokens+float64(rec.OutputTokens.V)
		variance += float64(sigma.V) * float64(sigma.V)
	}
	if tokens == 0 {
		return
	}
	value, sigma := uj/tokens/1e6, math.Sqrt(variance)/tokens/1e6
	v.JPerToken, v.JPerTokenSigma = &value, &sigma
}
