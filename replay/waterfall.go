package replay

import "wattline/meter"

// Waterfall is where a request's time went, medians in milliseconds, from the client's start to its last
// token: the phases add up to that for each request. Client and in-line figures are differences of
// clocks of their own, never of one clock and the other.
type Waterfall struct {
	Requests int `json:"requests"`        // with a row in line
	Client   Num `json:"client_ttft_ms"`  // the two views side by side
	InLine   Num `json:"in_line_ttft_ms"` //
	Network  Num `json:"network_ms"`
	Upload   Num `json:"upload_ms"`
	Proxy    Num `json:"proxy_ms"`
	Queue    Num `json:"queue_ms"`
	Prefill  Num `json:"prefill_ms"`
	Server   Num `json:"server_ms"`
	Decode   Num `json:"decode_ms"`
}

// The phases' formulas, in the order of the waterfall. Client times have a C: C1 its first output.
//
//	network  client ttft - in-line ttft          connection, kernel, client, both ways
//	upload   (in-line ttft - upstream ttft) - proxy_overhead    waiting for the request's body
//	proxy    proxy_overhead                     what wattline added before the first token
//	queue    S - P1                             waiting for a slot, templating and tokenising
//	prefill  the server's prompt_ms
//	server   upstream ttft - queue - prefill    from the end of the prompt to the first event
//	decode   last output - first output, client

// WaterfallOf the requests that have a row.
func WaterfallOf(list []*Exchange) Waterfall {
	var w Waterfall
	parts := make([][]Num, 7)
	var client, inLine []Num
	for _, e := range list {
		if e.InLine == nil {
			continue
		}
		w.Requests++
		client, inLine = append(client, ttftMs(e)), append(inLine, num(e.InLine.TTFTUs).Times(1e-3))
		for i, v := range phases(e) {
			parts[i] = append(parts[i], v)
		}
	}
	w.Client, w.InLine = Median(Present(client)), Median(Present(inLine))
	for i, into := range []*Num{&w.Network, &w.Upload, &w.Proxy, &w.Queue, &w.Prefill, &w.Server, &w.Decode} {
		*into = Median(Present(parts[i]))
	}
	return w
}

// phases of one request in milliseconds: network, upload, proxy, queue, prefill, server, decode.
func phases(e *Exchange) [7]Num {
	r := e.InLine
	minus := func(a meter.Int, subtract ...meter.Int) Num {
		v := a
		for _, s := range subtract {
			v = meter.Int{V: v.V - s.V, Valid: v.Valid && s.Valid}
		}
		return num(v).Times(1e-3)
	}
	return [7]Num{
		minus(e.TTFTUs, r.TTFTUs), minus(r.TTFTUs, r.UpstreamTTFTUs, r.ProxyOverheadUs), minus(r.ProxyOverheadUs),
		minus(r.BeforeSlotUs()), minus(r.PrefillUs), minus(r.UpstreamTTFTUs, r.BeforeSlotUs(), r.PrefillUs), minus(e.LastUs, e.TTFTUs),
	}
}

// InLine is the proxy's view of the same requests, beside the client's.
type InLine struct {
	Admin        string         `json:"admin"`
	Joined       int            `json:"joined"`    // measured requests with a row that was found
	Missing      int            `json:"missing"`   // measured requests without a row
	TTFTMs       Stat           `json:"ttft_ms"`   // in line
	Added        Stat           `json:"added_ms"`  // client ttft - in-line ttft
	Overhead     Stat           `json:"proxy_ms"`  // proxy_overhead
	Waterfall    Waterfall      `json:"waterfall"` // of all requests
	OtherTraffic []string       `json:"foreign"`   // other clients' requests during the run
	Contended    int            `json:"contended"` // rows during which another process computed on the GPU
	Disagree     []Disagreement `json:"disagreements"`
}

// Disagreement is a figure for which client and wattline have values that cannot both be right.
type Disagreement struct {
	RowID string `json:"row_id"`
	What  string `json:"what"`
}

func (r *Run) inLine(ok []*Exchange) InLine {
	out := InLine{Waterfall: WaterfallOf(ok), OtherTraffic: r.OtherTraffic}
	for _, e := range ok {
		if e.Admin != "" {
			out.Admin = e.Admin
		}
		if e.InLine == nil {
			out.Missing++
			continue
		}
		out.Joined++
		if e.InLine.EnergyQuality == meter.EnergyContended {
			out.Contended++
		}
		out.Disagree = append(out.Disagree, disagreements(e)...)
	}
	field := func(f func(*meter.Record) meter.Int) Stat {
		return StatOf(each(ok, func(e *Exchange) Num {
			return e.inLine(func(r *meter.Record) Num { return num(f(r)).Times(1e-3) })
		}))
	}
	out.TTFTMs = field(func(r *meter.Record) meter.Int { return r.TTFTUs })
	out.Overhead = field(func(r *meter.Record) meter.Int { return r.ProxyOverheadUs })
	out.Added = StatOf(each(ok, func(e *Exchange) Num {
		if e.InLine == nil {
			return Num{}
		}
		return phases(e)[0]
	}))
	return out
}

// resolutionUs is the error that truncation to microseconds may cause in a difference of differences.
const resolutionUs = 2

// disagreements of one request. The client starts before the proxy has read the head and sees a byte
// after the proxy has read it from the server (T1, E), so its times cannot be shorter than those. They
// may be shorter than ttft, because its W1 is stamped when the write has returned: a proxy that is preempted
// there is late by as much, and says so in proxy_overhead. Counts are the same bytes, read twice.
func disagreements(e *Exchange) []Disagreement {
	r := e.InLine
	var out []Disagreement
	add := func(what string) { out = append(out, Disagreement{e.RowID, what}) }
	shorter := func(what string, client, inLine meter.Int) {
		if client.Valid && inLine.Valid && client.V < inLine.V-resolutionUs {
			add(what + ": the client's " + usText(client) + " is shorter than the proxy's " + usText(inLine))
		}
	}
	arrived := meter.Int{V: r.TTFTUs.V - r.ProxyOverheadUs.V, Valid: r.TTFTUs.Valid && r.ProxyOverheadUs.Valid}
	shorter("first token (ttft, less proxy_overhead)", e.TTFTUs, arrived)
	shorter("duration", e.EndUs, r.DurationUs)
	differ := func(what string, client, inLine meter.Int) {
		if client.Valid && inLine.Valid && client.V != inLine.V {
			add(what + ": the client read " + countText(client) + ", the proxy " + countText(inLine))
		}
	}
	differ("output tokens", e.OutputTokens, r.OutputTokens)
	differ("prompt tokens", e.PromptTokens(), r.PromptTokens)
	differ("output events", meter.Some(int64(e.Events)), r.OutputEvents)
	return out
}
