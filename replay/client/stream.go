package client

import (
	"net/http"
	"slices"

	"wattline/meter"
	"wattline/replay"
)

// keepReads bounds the reads of one reply whose times are kept for the inter-token times; a token has one at most.
const keepReads = 1 << 20

// parseReply reads a whole reply after its end, with the reader that wattline has in line. clean reports that the
// reply ended by its own framing.
func parseReply(c *capture, ex *replay.Exchange, path string, head http.Header, clean bool) {
	var m meter.Meter
	m.BeginRequest(meter.RequestHead{Method: http.MethodPost, Path: path, KeepStamps: keepReads})
	m.BeginReply(meter.ReplyHead{Status: ex.Status, At: startNs, Header: func(name string) []byte { return []byte(head.Get(name)) }})
	from := 0
	for _, read := range c.marks {
		at := startNs + read.at.Nanoseconds()
		m.ReplyBody(c.body[from:read.end], at, at)
		from = read.end
	}
	rec := meter.Record{Outcome: meter.Truncated}
	if clean {
		rec.Outcome = meter.OK
	}
	m.Fill(&rec, meter.Marks{P0: startNs, H: startNs}, clean)
	o := m.Observations()
	ex.TTFTUs, ex.TTFOUs, ex.LastUs = micros(o.FirstNs), rec.TTFOUs, micros(o.LastNs)
	ex.Model, ex.FinishReason = baseName(rec.Model), rec.FinishReason
	ex.Events = int(rec.OutputEvents.V)
	if ex.OutputTokens = rec.OutputTokens; rec.OutputTokens.Valid {
		ex.TokenSource = rec.TokenSource
	}
	if t := o.Timings; t.Prompt.Valid {
		ex.PromptN, ex.CacheN = meter.Some(t.Prompt.V-t.Cached.V), t.Cached
		ex.PromptMs, ex.PredictedMs = millis(t.PromptUs), millis(t.PredictedUs)
	}
	switch {
	case rec.Outcome == meter.UpstreamError:
		ex.Error = "an error in the stream: " + rec.Error
	case rec.Error != "":
		ex.Error = rec.Error
	}
	gaps(rec.GapsUs, ex)
}

// startNs is the request's start on the clock of parseReply's marks, where 0 would be a mark that is not there.
const startNs = 1

func micros(ns meter.Int) meter.Int { return meter.Int{V: ns.V / 1e3, Valid: ns.Valid} }

func millis(us meter.Int) replay.Num { return replay.Num{V: float64(us.V) / 1e3, Valid: us.Valid} }

// gaps computes the inter-token times.
func gaps(us []uint32, ex *replay.Exchange) {
	if len(us) == 0 {
		return
	}
	ex.GapsUs = make([]int64, len(us))
	for i, g := range us {
		ex.GapsUs[i] = int64(g)
	}
	sorted := slices.Sorted(slices.Values(ex.GapsUs))
	at := func(p float64) meter.Int { return meter.Some(sorted[replay.Rank(p, len(sorted))]) }
	ex.ITLP50Us, ex.ITLP90Us, ex.ITLP99Us = at(0.50), at(0.90), at(0.99)
	ex.ITLMaxUs = meter.Some(sorted[len(sorted)-1])
}
