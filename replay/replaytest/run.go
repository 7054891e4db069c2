// Package replaytest makes runs with known figures, for tests of results and reports: a card of 120 W idle, 590 W in
// prefill and 215 W in decode, prompts at 5,000 tokens a second and replies at 100.
package replaytest

import (
	"fmt"
	"time"

	"wattline/meter"
	"wattline/replay"
)

// What the made-up server does.
const (
	PromptPerSecond = 5000
	ReplyPerSecond  = 100
	IdleW           = 120
	PrefillW        = 590
	DecodeW         = 215
	QueueUs         = 4000
	OverheadUs      = 150
	NetworkUs       = 200
	VRAMBytes       = 17_000_000_000
)

// Begin is when every made-up run began.
//
//nolint:gochecknoglobals // a constant
var Begin = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

// Run makes a valid run of the workload, one request after the other, with energy.
func Run(spec replay.Spec) *replay.Run {
	spec, err := spec.Complete([]string{"coding", "list"})
	if err != nil {
		panic(err) // a test's own fault
	}
	plan, err := replay.Compile(spec, "corpus", 131072)
	if err != nil {
		panic(err)
	}
	server := &replay.Server{
		Endpoint: "http://127.0.0.1:11433", Build: "b11669", Model: "GLM-4.7-Flash-UD-Q4_K_XL.gguf", ModelPath: "/models/GLM-4.7-Flash-UD-Q4_K_XL.gguf",
		Quantisation: "Q4_K - Medium", Params: 29_940_000_000, ModelBytes: 16_900_000_000, ContextTokens: 131072, Slots: 4,
	}
	after := *server
	r := &replay.Run{Plan: plan, StartedAt: Begin, Server: server, After: &after, Joined: true}
	at := Begin.Add(5 * time.Second)
	for trial, order := range plan.Order {
		for _, cell := range order {
			span := replay.Span{Trial: trial, Cell: cell, From: at, CPUSeconds: replay.Some(0.01)}
			for i := range spec.Requests {
				e := exchange(plan, replay.Key{Trial: trial, Cell: cell, Index: i}, at)
				r.Exchanges = append(r.Exchanges, e)
				at = at.Add(time.Duration(e.EndUs.V) * time.Microsecond)
			}
			span.To = at
			r.Spans = append(r.Spans, span)
			at = at.Add(500 * time.Millisecond)
		}
	}
	r.EndedAt = at
	power(r)
	return r
}

// exchange is one request and its row. Every third of a cell is 2 % slower, so that there is a spread.
func exchange(p *replay.Plan, k replay.Key, at time.Time) *replay.Exchange {
	c := p.Cells[k.Cell]
	slow := 1.0
	if k.Index%3 == 2 {
		slow = 1.02
	}
	us := func(v float64) meter.Int { return meter.Some(int64(v * slow)) }
	prefill := us(float64(c.PromptTokens) / PromptPerSecond * 1e6)
	gap := int64(1e6 / ReplyPerSecond * slow)
	decode := gap * int64(c.OutputTokens-1)
	upstream := QueueUs + prefill.V
	inLine := upstream + OverheadUs
	ttft := inLine + NetworkUs
	e := &replay.Exchange{
		Key: k, Cell: c, StartedAt: at, ConnectedUs: meter.Some(20), SentUs: meter.Some(60), HeadUs: meter.Some(QueueUs + 100),
		TTFTUs: meter.Some(ttft), TTFOUs: meter.Some(ttft), LastUs: meter.Some(ttft + decode), EndUs: meter.Some(ttft + decode + 300),
		ITLP50Us: meter.Some(gap), ITLP90Us: meter.Some(gap), ITLP99Us: meter.Some(gap), ITLMaxUs: meter.Some(gap),
		Status: 200, FinishReason: "length", Model: "GLM-4.7-Flash-UD-Q4_K_XL.gguf", Events: c.OutputTokens,
		OutputTokens: meter.Some(int64(c.OutputTokens)), TokenSource: meter.TokensFromUsage, PromptN: meter.Some(int64(c.PromptTokens)), CacheN: meter.Some(0),
		PromptMs: replay.Some(float64(prefill.V) / 1e3), PredictedMs: replay.Some(float64(decode) / 1e3),
		RowID: fmt.Sprintf("row-%d-%d-%d", k.Trial, k.Cell, k.Index), Admin: "http://127.0.0.1:11435",
	}
	for range c.OutputTokens - 1 {
		e.GapsUs = append(e.GapsUs, gap)
	}
	duration := inLine + decode + 100
	held := duration - (inLine - upstream) - QueueUs
	prefillUj := prefill.V * (PrefillW - IdleW)
	decodeUj := decode * (DecodeW - IdleW)
	e.InLine = &meter.Record{
		ID: e.RowID, StartedAt: at.Add(50 * time.Microsecond), Upstream: "http://127.0.0.1:8080", Dialect: "chat", Outcome: meter.OK, Status: meter.Some(200),
		Stream: meter.Some(1), TTFTUs: meter.Some(inLine), UpstreamTTFTUs: meter.Some(upstream), DurationUs: meter.Some(duration), QueueUs: meter.Some(QueueUs),
		PrefillUs: prefill, DecodeUs: meter.Some(decode), ProxyOverheadUs: meter.Some(OverheadUs),
		PromptTokens: e.PromptN, CachedTokens: e.CacheN, OutputTokens: e.OutputTokens, OutputEvents: meter.Some(int64(e.Events)), MeanConcurrency: meter.Some(1000),
		GPUPrefillUj: meter.Some(prefillUj), GPUDecodeUj: meter.Some(decodeUj), GPUActiveUj: meter.Some(prefillUj + decodeUj), GPUIdleUj: meter.Some(held * IdleW),
		GPUIdleHeldUj: meter.Some(held * IdleW), GPUIdleWaitingUj: meter.Some(0), GPUSigmaUj: meter.Some(3_000_000),
		GPUUj: meter.Some(prefillUj + decodeUj + held*IdleW), EnergyQuality: meter.EnergyMeasured, CPUUj: meter.Some(held * 20),
		VRAMBytes: meter.Some(VRAMBytes), RAMBytes: meter.Some(2_000_000_000), GPUTempC: meter.Some(61),
	}
	return e
}

// device of the made-up card.
const device = "GPU-0"

// power gives the card's power by the second and every 20 ms.
func power(r *replay.Run) {
	const step = 20 * time.Millisecond
	r.Power.Devices = []replay.DeviceInfo{{Device: device, Name: "NVIDIA H100 80GB HBM3", Driver: "580.159.04", PowerLimitMw: meter.Some(700_000)}}
	curve := replay.Curve{Device: device, From: r.StartedAt, StepUs: step.Microseconds()}
	next := 0
	for at := r.StartedAt; at.Before(r.EndedAt.Add(2 * time.Second)); at = at.Add(step) {
		for next < len(r.Exchanges) && !at.Before(end(r.Exchanges[next])) {
			next++
		}
		w := int64(IdleW)
		if next < len(r.Exchanges) && !at.Before(r.Exchanges[next].StartedAt) {
			e := r.Exchanges[next]
			w = PrefillW
			if at.After(e.StartedAt.Add(time.Duration(e.TTFTUs.V) * time.Microsecond)) {
				w = DecodeW
			}
		}
		curve.MilliWatts = append(curve.MilliWatts, w*1000)
	}
	r.Power.Curves = []replay.Curve{curve}
	perSecond := int(time.Second / step)
	for i := 0; i+perSecond <= len(curve.MilliWatts); i += perSecond {
		total, most := int64(0), int64(0)
		for _, mw := range curve.MilliWatts[i : i+perSecond] {
			total += mw
			most = max(most, mw)
		}
		mean := total / int64(perSecond)
		r.Power.Samples = append(r.Power.Samples, replay.Sample{
			At: r.StartedAt.Add(time.Duration(i) * step), Device: device, SpanUs: meter.Some(1e6), EnergyUj: meter.Some(mean * 1000), MeanMw: meter.Some(mean),
			MaxMw: meter.Some(most), TempC: meter.Some(40 + int64(i/perSecond)/10), SMClockMHz: meter.Some(1980), LimitMw: meter.Some(700_000),
			VRAMBytes: meter.Some(VRAMBytes), ThrottledUs: meter.Some(0), UtilPermille: meter.Some(900), Source: "nvml",
		})
	}
	for at := r.StartedAt; at.Before(r.EndedAt); at = at.Add(100 * time.Millisecond) {
		n := 0
		for _, e := range r.Exchanges {
			if !at.Before(e.StartedAt) && at.Before(end(e)) {
				n++
			}
		}
		r.Gauge = append(r.Gauge, replay.GaugePoint{At: at, InFlight: n})
	}
}

func end(e *replay.Exchange) time.Time {
	return e.StartedAt.Add(time.Duration(e.EndUs.V) * time.Microsecond)
}
