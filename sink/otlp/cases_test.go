package otlp

import (
	"time"

	"wattline/meter"
)

// aRequest is one request as wattline's row and note tell it.
type aRequest struct {
	name string
	p1   meter.Int
	rec  meter.Record
}

func some(v int64) meter.Int { return meter.Some(v) }

// ok is a streamed chat alone on a card, with measured energy.
func ok() meter.Record {
	return meter.Record{
		ID: "0199c9e0-0000-7000-8000-000000000001", StartedAt: time.Date(2026, 11, 23, 12, 0, 0, 123456789, time.UTC),
		Instance: "desk", Route: "default", Upstream: "http://127.0.0.1:8080", Method: "POST", Path: "/v1/chat/completions",
		Dialect: meter.DialectChat, Model: "qwen3-8b", Stream: some(1), Status: some(200), Outcome: meter.OK, FinishReason: "stop",
		ConfigID: "c0ffee", Agent: "openai-python", Session: "h:1234", Labels: map[string]string{"team": "red", "env": "test"},
		TTFBUs: some(5_200), TTFTUs: some(45_300), TTFOUs: some(45_300), UpstreamTTFTUs: some(45_000), DurationUs: some(1_045_400),
		QueueUs: some(5_000), PrefillUs: some(40_000), DecodeUs: some(1_000_000), ITLP50Us: some(10_000), ITLP90Us: some(11_000),
		ITLP99Us: some(14_000), ITLMaxUs: some(20_000), Stalls: some(0), WriteBlockedUs: some(900), ProxyOverheadUs: some(150),
		PromptTokens: some(1_200), CachedTokens: some(200), OutputTokens: some(100), MaxTokens: some(256), OutputEvents: some(100),
		TokenSource: meter.TokensFromUsage, Messages: some(3), RequestBytes: some(5_000), ResponseBytes: some(20_000), MeanConcurrency: some(1_000),
		GPUUj: some(210_500_000), GPUActiveUj: some(90_500_000), GPUIdleUj: some(120_000_000), GPUPrefillUj: some(37_000_000),
		GPUDecodeUj: some(53_500_000), GPUSigmaUj: some(4_000_000), EnergyQuality: meter.EnergyMeasured, EnergyMethod: "phase",
		EnergySource: "nvml/ring", GPUMeanMw: some(201_350), GPUPowerLimitMw: some(700_000),
		Details: &meter.Details{
			Temperature: meter.Float{V: 0.7, Valid: true}, Seed: some(7), Slot: some(2),
			QueueSource: meter.SourceHead, PrefillSource: meter.SourceServer, DecodeSource: meter.SourceMarks,
		},
	}
}

// withoutEnergy is a row as it is where no device was found.
func withoutEnergy(r meter.Record) meter.Record {
	r.GPUUj, r.GPUActiveUj, r.GPUIdleUj, r.GPUPrefillUj, r.GPUDecodeUj = meter.Int{}, meter.Int{}, meter.Int{}, meter.Int{}, meter.Int{}
	r.GPUSigmaUj, r.GPUMeanMw, r.GPUPowerLimitMw = meter.Int{}, meter.Int{}, meter.Int{}
	r.EnergyQuality, r.EnergyMethod, r.EnergySource = meter.EnergyUnavailable, "", ""
	return r
}

// requests are the cases of the golden trees. The numbers of a row agree with each other as the meter
// would have them: P1 + upstream_ttft = T1, S = P1 + queue, and so on.
func requests() []aRequest {
	queued := withoutEnergy(ok())
	queued.QueueUs, queued.UpstreamTTFTUs, queued.TTFTUs = some(3_000_000), some(3_040_000), some(3_040_300)
	queued.TTFBUs, queued.DurationUs, queued.MeanConcurrency = some(3_000_200), some(4_040_400), some(4_750)

	cancelled := withoutEnergy(ok())
	cancelled.Outcome, cancelled.FinishReason, cancelled.OutputTokens, cancelled.OutputEvents = meter.Cancelled, "", meter.Int{}, some(31)
	cancelled.DecodeUs, cancelled.DurationUs, cancelled.TokenSource = some(300_000), some(345_700), meter.TokensFromEvents
	cancelled.PromptTokens, cancelled.CachedTokens = meter.Int{}, meter.Int{}
	cancelled.Details = nil

	truncated := withoutEnergy(ok())
	truncated.Outcome, truncated.FinishReason, truncated.Error = meter.Truncated, "", "the upstream http://127.0.0.1:8080 ended its reply early: end of stream"
	truncated.OutputTokens, truncated.OutputEvents, truncated.TokenSource = meter.Int{}, some(50), meter.TokensFromEvents
	truncated.DecodeUs, truncated.DurationUs = some(500_000), some(545_600)

	refused := meter.Record{
		ID: ok().ID, StartedAt: ok().StartedAt, Instance: "desk", Route: "default", Upstream: "http://127.0.0.1:8080", Method: "POST",
		Path: "/v1/chat/completions", Dialect: meter.DialectChat, Status: some(503), Outcome: meter.Rejected, Error: "too many requests in flight",
		Agent: "openai-python", DurationUs: some(80), RequestBytes: some(0), ResponseBytes: some(0), MeanConcurrency: some(4_097_000),
		EnergyQuality: meter.EnergyUnavailable,
	}

	unreachable := refused
	unreachable.Status, unreachable.Outcome, unreachable.MeanConcurrency = some(502), meter.UpstreamError, some(1_000)
	unreachable.Error, unreachable.DurationUs = "nothing answers at http://127.0.0.1:8080: connection refused", some(400)

	tooLong := refused
	tooLong.Status, tooLong.Outcome, tooLong.TTFBUs, tooLong.MeanConcurrency = some(400), meter.UpstreamError, some(9_000), some(1_000)
	tooLong.Error, tooLong.DurationUs = `the request exceeds the context, it began "dear diary"`, some(9_100)
	tooLong.Model = "qwen3-8b"

	two := ok()
	two.FinishReason, two.OutputTokens, two.OutputEvents, two.ITLP50Us = "stop,length", some(200), some(200), some(5_000)
	two.EnergyQuality = meter.EnergyEstimated
	two.Details = &meter.Details{
		RequestedModel: "fast", Completions: some(2),
		QueueSource: meter.SourceHead, PrefillSource: meter.SourceServer, DecodeSource: meter.SourceMarks,
	}

	whole := withoutEnergy(ok())
	whole.Stream, whole.TTFTUs, whole.TTFOUs, whole.UpstreamTTFTUs, whole.ProxyOverheadUs = some(0), meter.Int{}, meter.Int{}, meter.Int{}, meter.Int{}
	whole.TTFBUs, whole.DurationUs, whole.QueueUs = some(1_045_300), some(1_045_300), some(5_100)
	whole.ITLP50Us, whole.ITLP90Us, whole.ITLP99Us, whole.ITLMaxUs, whole.Stalls = meter.Int{}, meter.Int{}, meter.Int{}, meter.Int{}, meter.Int{}
	whole.OutputEvents = meter.Int{}
	whole.Details = &meter.Details{
		Seed: some(7), QueueSource: meter.SourceServer, PrefillSource: meter.SourceServer, DecodeSource: meter.SourceServer,
	}

	other := meter.Record{
		ID: ok().ID, StartedAt: ok().StartedAt, Instance: "desk", Route: "default", Upstream: "unix:///run/llama.sock", Method: "BREW",
		Path: "/pot/17", Status: some(404), Outcome: meter.UpstreamError, TTFBUs: some(900), DurationUs: some(950), Agent: "curl",
		RequestBytes: some(0), ResponseBytes: some(20), MeanConcurrency: some(1_000), EnergyQuality: meter.EnergyUnavailable,
	}
	return []aRequest{
		{"ok", some(200), ok()},
		{"queued", some(200), queued},
		{"cancelled", some(200), cancelled},
		{"truncated", some(200), truncated},
		{"refused", meter.Int{}, refused},
		{"unreachable", meter.Int{}, unreachable},
		{"upstream-refuses", some(150), tooLong},
		{"two-completions", some(200), two},
		{"no-energy", some(200), withoutEnergy(ok())},
		{"not-streamed", some(200), whole},
		{"not-metered", some(100), other},
	}
}
