package serving

import (
	"context"
	"slices"
	"time"

	"wattline/gpu"
	"wattline/sink/console"
	"wattline/sink/queries"
	"wattline/sink/store"
)

// followLive gives the console's live page its sources.
func (s *Service) followLive() {
	s.Rows.live.Follow(console.LiveConfig{
		Inflight: s.liveRequests, Devices: s.liveDevices, DevicesOf: s.devicesOf, Log: s.host.Log,
		Power: func(from, to time.Time) (out []console.Curve) {
			for _, h := range s.energy.History(from, to) {
				out = append(out, console.Curve{Device: h.Info.UUID, From: h.From, StepUs: h.Step.Microseconds(), MilliWatts: h.MilliWatts})
			}
			return out
		},
		Past: func(ctx context.Context, from time.Time) (*console.Past, error) {
			return readPast(ctx, s.Rows.Reader, from)
		},
	})
}

func (s *Service) liveRequests() (out []console.LiveRequest) {
	for i, r := range s.routes {
		for _, f := range r.proxy.Inflight() {
			slot, prompt := s.energy.routes[i].Slot(f.Seq)
			out = append(out, console.LiveRequest{
				ID: f.ID, Route: f.Route, Agent: f.Agent, Session: f.Session, Model: f.Model, Method: f.Method, Path: f.Path, Slot: slot, Prompt: prompt,
				StartedAt: f.StartedAt, SentAt: f.SentAt, HeadedAt: f.HeadedAt, FirstAt: f.FirstAt, Streams: f.Streams, Computes: f.Computes, Events: f.Events,
			})
		}
	}
	return out
}

func (s *Service) liveDevices() (out []console.LiveDevice) {
	for _, st := range s.energy.GPUStates() {
		d := console.LiveDevice{
			Device: st.Info.UUID, Name: st.Info.Name, Source: st.Info.Source, Driver: st.Info.Driver, Simulated: st.Info.Simulated,
			PowerLimitMw: st.Status.LimitMw, IdleMw: s.energy.IdleMw(st.Info.UUID),
		}
		if st.Condition == gpu.Lost || st.Condition == gpu.Asleep {
			if d.Reason = st.Why; d.Reason == "" {
				d.Reason = string(st.Condition)
			}
		}
		out = append(out, d)
	}
	return out
}

func (s *Service) devicesOf(route string) []string {
	for i, r := range s.routes {
		if r.Name == route {
			return s.energy.RouteDevices(i)
		}
	}
	return nil
}

// pastRows is how many rows of the last minutes a live page begins with; one that ended there may have begun long before.
const pastRows = 1000

func readPast(ctx context.Context, r *store.Reader, from time.Time) (_ *console.Past, err error) {
	p := &console.Past{}
	if p.Rows, err = r.List(ctx, store.Filter{Since: from.Add(-15 * time.Minute)}, pastRows); err != nil {
		return nil, err
	}
	slices.Reverse(p.Rows) // the oldest first
	if p.Power, err = r.Power(ctx, from, time.Now()); err != nil {
		return nil, err
	}
	p.Configs, err = StoreEngine(r).Configs(ctx, liveConfigs)
	return p, err
}

// liveConfigs is how many configurations a live page begins with.
const liveConfigs = 20

// StoreEngine is a store as an engine of queries.
func StoreEngine(r *store.Reader) *queries.Engine {
	return &queries.Engine{DB: r.DB(), Dialect: queries.SQLite, Where: r.Path(), Explain: r.Explain, Closer: r.Close}
}
