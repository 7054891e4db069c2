package chtest

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"wattline/meter"
	"wattline/sink"
)

// RowsConfig says what Rows makes up. Requests and Seed suffice.
type RowsConfig struct {
	Seed     uint64
	Requests int
	Samples  int           // rows of power, and as many of ledger, one a second and device
	Instance string        // default "gpu-1"
	From     time.Time     // when the first request starts; default 20 days ago at midnight, so that no TTL is near
	Gaps     bool          // raw gaps of some streams; From is then 4 days ago, since they have a short TTL
	Every    time.Duration // mean time between two requests; default 2 s
}

// Rows makes up rows that look like a busy shared workstation's: two models, coding agents with long
// sessions and a warm cache, a chat front end and scripts; nulls wherever a real row has them; every
// outcome and energy quality. The same configuration gives the same rows.
func Rows(c RowsConfig) *sink.Rows {
	if c.Instance == "" {
		c.Instance = "gpu-1"
	}
	if c.From.IsZero() && c.Gaps {
		c.From = time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -4)
	}
	if c.From.IsZero() {
		c.From = time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -20)
	}
	if c.Every == 0 {
		c.Every = 2 * time.Second
	}
	g := &generator{RowsConfig: c, r: rand.New(rand.NewPCG(c.Seed, 0x77617474))}
	rows := &sink.Rows{Requests: make([]*meter.Record, 0, c.Requests)}
	at := c.From
	for range c.Requests {
		at = at.Add(time.Duration(g.r.ExpFloat64() * float64(c.Every))).Truncate(time.Microsecond)
		rec := g.request(at)
		rows.Requests = append(rows.Requests, rec)
		if c.Gaps && rec.ITLP50Us.Valid && len(rows.Requests)%10 == 0 {
			rows.Gaps = append(rows.Gaps, g.gaps(rec))
		}
	}
	for i := range c.Samples {
		p, l := g.sample(c.From.Add(time.Duration(i/len(devices))*time.Second), devices[i%len(devices)])
		rows.Power, rows.Ledger = append(rows.Power, p), append(rows.Ledger, l)
	}
	for i, model := range models {
		rows.Configs = append(rows.Configs, g.config(model, i))
	}
	return rows
}

// What the rows are made of.
var ( //nolint:gochecknoglobals // constant tables
	models  = []string{"qwen3-coder-30b-a3b-q4_k_m", "gpt-oss-120b-mxfp4"}
	devices = []string{"GPU-5e3a1c22", "GPU-90ff71b8"}
	agents  = []string{"claude-cli", "opencode", "Open-WebUI", "python-requests", ""}
	finish  = []string{"stop", "tool_calls", "length"}
)

type generator struct {
	RowsConfig
	r *rand.Rand
}

// lognormal has the given median and spread (sigma of the logarithm).
func (g *generator) lognormal(median, sigma float64) float64 {
	return median * math.Exp(sigma*g.r.NormFloat64())
}

func (g *generator) chance(p float64) bool { return g.r.Float64() < p }

func (g *generator) hex(n int) string {
	b := make([]byte, 0, 16)
	b = binary.BigEndian.AppendUint64(b, g.r.Uint64())
	b = binary.BigEndian.AppendUint64(b, g.r.Uint64())
	return hex.EncodeToString(b)[:n]
}

// pick is one of a pool of stable hashes, as --identify hash writes them.
func (g *generator) pick(kind string, pool int) string {
	r := rand.New(rand.NewPCG(uint64(g.r.IntN(pool)), uint64(len(kind))))
	return fmt.Sprintf("%016x", r.Uint64())
}

// uuid7 is a UUIDv7 of the time.
func (g *generator) uuid7(at time.Time) string {
	ms := fmt.Sprintf("%012x", at.UnixMilli())
	h := g.hex(32)
	return fmt.Sprintf("%s-%s-7%s-%x%s-%s", ms[:8], ms[8:], h[:3], 8+g.r.IntN(4), h[3:6], h[6:18])
}

func (g *generator) request(at time.Time) *meter.Record {
	agent := agents[g.r.IntN(len(agents))]
	model := models[min(g.r.IntN(4), 1)]
	rec := &meter.Record{
		ID: g.uuid7(at), StartedAt: at, Instance: g.Instance, Route: "default", Upstream: "127.0.0.1:8080",
		Method: "POST", Path: "/v1/chat/completions", Dialect: "chat", Model: model, Status: meter.Some(200), Outcome: meter.OK,
		Agent: agent, ClientAddr: g.pick("address", 12), ConfigID: "cfg-" + model, Stream: meter.Some(1),
		Messages: meter.Some(int64(1 + g.r.IntN(60))), RequestBytes: meter.Some(int64(g.lognormal(9000, 1.2))),
		MeanConcurrency: meter.Some(int64(1000 + g.r.ExpFloat64()*900)), PricePerKWhMicro: meter.Some(312000), GCO2PerKWhMilli: meter.Some(380000),
	}
	g.identify(rec)
	switch x := g.r.Float64(); {
	case x < 0.02:
		rec.Outcome, rec.Status, rec.Error = meter.UpstreamError, meter.Some(503), "Loading model"
		rec.DurationUs, rec.EnergyQuality = meter.Some(int64(g.lognormal(2000, 0.4))), meter.EnergyUnavailable
		return rec
	case x < 0.08:
		rec.Outcome = meter.Cancelled
	case x < 0.09:
		rec.Outcome, rec.Error = meter.Truncated, "the upstream's reply ended early"
	}
	g.measure(rec)
	g.energy(rec)
	cacheVerdict(rec)
	return rec
}

func (g *generator) identify(rec *meter.Record) {
	if g.chance(0.8) {
		rec.Session = g.pick("session", max(1, g.Requests/50))
	}
	if g.chance(0.6) {
		rec.User = g.pick("user", 25)
	}
	if g.chance(0.3) {
		rec.TraceID = g.hex(32)
	}
	if g.chance(0.2) {
		rec.APIKeyID = g.pick("key", 9)
		rec.ClientRequestID = "req_" + g.hex(20)
	}
	if g.chance(0.5) {
		rec.Labels = map[string]string{"team": []string{"infra", "apps", "research"}[g.r.IntN(3)]}
		if g.chance(0.4) {
			rec.Labels["arm"] = []string{"a", "b"}[g.r.IntN(2)]
		}
	}
	if g.chance(0.4) {
		rec.Tools = meter.Some(int64(g.r.IntN(30)))
	}
}

// measure fills times and tokens so that they agree with one another.
func (g *generator) measure(rec *meter.Record) {
	prompt := int64(math.Min(120_000, g.lognormal(6000, 1.3))) + 20
	cached := int64(0)
	if g.chance(0.7) {
		cached = int64(float64(prompt) * 0.95 * g.r.Float64())
	}
	output := 1 + int64(g.lognormal(220, 1.1))
	itl := g.lognormal(9500, 0.25)
	prefill := float64(prompt-cached)*120 + 4000
	queue := 5000 * g.r.ExpFloat64()
	if g.chance(0.1) {
		queue += g.lognormal(800_000, 1)
	}
	decode := itl * float64(output-1)
	overhead := g.lognormal(140, 0.3)
	us := func(x float64) meter.Int { return meter.Some(int64(x)) }

	rec.PromptTokens, rec.CachedTokens, rec.OutputTokens = meter.Some(prompt), meter.Some(cached), meter.Some(output)
	rec.TokenSource, rec.FinishReason = meter.TokensFromTimings, finish[g.r.IntN(len(finish))]
	rec.QueueUs, rec.PrefillUs, rec.DecodeUs, rec.ProxyOverheadUs = us(queue), us(prefill), us(decode), us(overhead)
	rec.DurationUs = us(queue + prefill + decode + overhead)
	rec.WriteBlockedUs, rec.ResponseBytes = us(g.lognormal(900, 0.8)), meter.Some(output*260)
	rec.TTFBUs = us(queue + overhead)
	if g.chance(0.1) {
		rec.Stream, rec.TTFBUs = meter.Some(0), rec.DurationUs
		return
	}
	rec.TTFTUs, rec.UpstreamTTFTUs = us(queue+prefill+overhead), us(queue+prefill)
	rec.TTFOUs, rec.OutputEvents = rec.TTFTUs, meter.Some(output)
	if g.chance(0.3) {
		rec.ReasoningTokens = meter.Some(output / 3)
		rec.TTFOUs = us(queue + prefill + overhead + decode/3)
	}
	if output > 1 {
		rec.ITLP50Us, rec.ITLP90Us, rec.ITLP99Us, rec.ITLMaxUs = us(itl), us(itl*1.1), us(itl*g.lognormal(1.6, 0.2)), us(itl*g.lognormal(3, 0.5))
		rec.Stalls = meter.Some(int64(g.r.IntN(20) / 19))
	}
}

// gaps are the first of a stream's raw ones, as serve keeps them where it is asked to.
func (g *generator) gaps(rec *meter.Record) *sink.Gaps {
	out := &sink.Gaps{ID: rec.ID, StartedAt: rec.StartedAt, Instance: rec.Instance, Model: rec.Model}
	for range min(rec.OutputTokens.V-1, 100) {
		out.GapsUs = append(out.GapsUs, uint32(float64(rec.ITLP50Us.V)*g.lognormal(1, 0.2)))
	}
	return out
}

// energy fills the joules, by the design's rough costs a token.
func (g *generator) energy(rec *meter.Record) {
	rec.EnergySource, rec.EnergyMethod = "nvml", "phase"
	rec.GPUDevices = []string{devices[0]}
	rec.GPUPowerLimitMw, rec.VRAMBytes, rec.RAMBytes = meter.Some(450_000), meter.Some(21<<30+int64(g.r.IntN(1<<28))), meter.Some(3<<30)
	rec.GPUTempC = meter.Some(int64(55 + g.r.IntN(25)))
	if g.chance(0.03) {
		rec.EnergyQuality = meter.EnergyUnavailable
		return
	}
	prefill := int64(float64(rec.PromptTokens.V-rec.CachedTokens.V) * 37_000 * g.lognormal(1, 0.1))
	decode := int64(float64(rec.OutputTokens.V) * 790_000 * g.lognormal(1, 0.15))
	idle := rec.DurationUs.V * 70
	total := prefill + decode + idle
	sigma := int64(float64(total)*0.02) + 900_000
	rec.GPUSigmaUj, rec.GPUActiveSigmaUj = meter.Some(sigma), meter.Some(sigma*9/10)
	rec.GPUTimeUj, rec.GPUTokenUj = meter.Some(int64(float64(total)*g.lognormal(1, 0.4))), meter.Some(int64(float64(total)*g.lognormal(1, 0.5)))
	if 1.96*float64(sigma) >= float64(total) {
		rec.EnergyQuality, rec.GPUEstimateUj = meter.EnergyBelowResolution, meter.Some(total)
		return
	}
	rec.EnergyQuality = []string{meter.EnergyMeasured, meter.EnergyShared, meter.EnergyShared, meter.EnergyEstimated}[g.r.IntN(4)]
	rec.GPUUj, rec.GPUActiveUj, rec.GPUIdleUj = meter.Some(total), meter.Some(prefill+decode), meter.Some(idle)
	rec.GPUIdleHeldUj, rec.GPUIdleWaitingUj = meter.Some(idle-idle/4), meter.Some(idle/4)
	rec.GPUPrefillUj, rec.GPUDecodeUj = meter.Some(prefill), meter.Some(decode)
	rec.GPUMeanMw = meter.Some(total * 1000 / max(1, rec.DurationUs.V))
	rec.GPUUjByDevice = []int64{total}
	if g.chance(0.3) {
		rec.CPUUj = meter.Some(total / 9)
	}
}

// cacheVerdict fills the cache columns: one prompt in 20 has lost what it could have reused.
func cacheVerdict(rec *meter.Record) {
	if !rec.PromptTokens.Valid {
		return
	}
	of := rec.PromptTokens.V % 20 // the generator's other values stay as they are
	rec.CacheVerdict, rec.CacheExpectedTokens, rec.CacheLostTokens = "hit", rec.CachedTokens, meter.Some(0)
	switch {
	case of == 1:
		rec.CacheVerdict = "cold"
	case of == 0:
		lost := (rec.PromptTokens.V - rec.CachedTokens.V) / 2
		rec.CacheExpectedTokens, rec.CacheLostTokens = meter.Some(rec.CachedTokens.V+lost), meter.Some(lost)
		rec.CacheLostUs = meter.Some(rec.PrefillUs.V / 2)
		if rec.GPUPrefillUj.Valid {
			rec.CacheLostUj, rec.CacheLostSigmaUj = meter.Some(rec.GPUPrefillUj.V/2), meter.Some(rec.GPUPrefillUj.V/20)
		}
		rec.CacheVerdict, rec.CacheCause = "server", "evicted"
		if rec.PromptTokens.V%3 > 0 {
			rec.CacheVerdict, rec.CacheCause, rec.CachePart = "client", "volatile line", "system"
		}
	}
}

// sample is one device's second.
func (g *generator) sample(at time.Time, device string) (*sink.Power, *sink.Ledger) {
	energy := 90_000_000 + int64(g.lognormal(80_000_000, 0.7))
	active := int64(0)
	if g.chance(0.7) {
		active = energy * int64(40+g.r.IntN(40)) / 100
	}
	idle := int64(68_000_000)
	l := &sink.Ledger{
		At: at, Instance: g.Instance, Device: device, SpanUs: meter.Some(1_000_000), CounterUj: meter.Some(energy),
		RequestsActiveUj: meter.Some(active), PoolsUj: meter.Some(0), IdleSigmaUj: meter.Some(1_200_000), Source: "nvml",
		RequestsIdleUj: meter.Some(0), IdleUj: meter.Some(idle),
	}
	if active > 0 {
		l.RequestsIdleUj, l.IdleUj = meter.Some(idle), meter.Some(0)
	}
	l.ResidualUj = meter.Some(energy - active - idle)
	p := &sink.Power{
		At: at, Instance: g.Instance, Device: device, SpanUs: meter.Some(1_000_000), EnergyUj: meter.Some(energy),
		MeanMw: meter.Some(energy / 1000), MaxMw: meter.Some(energy/1000 + int64(g.r.IntN(90_000))), TempC: meter.Some(int64(50 + g.r.IntN(30))),
		UtilPermille: meter.Some(int64(g.r.IntN(1001))), VRAMBytes: meter.Some(21 << 30), SMClockMHz: meter.Some(int64(1400 + 15*g.r.IntN(60))),
		LimitMw: meter.Some(450_000), ThrottledUs: meter.Some(0), Source: "nvml", Channel: "ring", Simulated: meter.Some(0), Contended: meter.Some(0),
		ErrorUj: meter.Some(energy / 300), MinMw: meter.Some(60_000 + int64(g.r.IntN(20_000))), MemTempC: meter.Some(int64(60 + g.r.IntN(30))),
		MemUtilPermille: meter.Some(int64(g.r.IntN(101)) * 10), UpstreamVRAMBytes: meter.Some(20 << 30), MemClockMHz: meter.Some(14001),
	}
	if g.chance(0.02) {
		p.Marked = "counter and integrated power disagree"
	}
	if g.chance(0.05) {
		p.ThrottledUs, p.Throttle = meter.Some(int64(g.r.IntN(1_000_000))), []string{"sw_power_cap"}
	}
	return p, l
}

func (g *generator) config(model string, i int) *sink.ServerConfig {
	return &sink.ServerConfig{
		ConfigID: "cfg-" + model, At: g.From.Add(time.Duration(i) * time.Hour), Instance: g.Instance, Upstream: "127.0.0.1:8080",
		ServerBuild: "b11669", ServerFlags: []string{"-np", "4", "-c", "131072"}, Model: model, Quantisation: "Q4_K_M",
		ContextTokens: meter.Some(32768), Slots: meter.Some(4), GPUs: []string{"NVIDIA RTX 5090"}, Driver: "580.159.04",
		GPUPowerLimitMw: meter.Some(450_000), WattlineVersion: "0.1.0",
	}
}
