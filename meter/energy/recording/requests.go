// Package recording feeds what `wattline serve --record` wrote to a ledger in order of arrival: the same
// ledger, offline. The caller hands over the device's readings; ReadRequests reads requests.jsonl, which has one
// request a line as its client saw it. All stamps are nanoseconds of one clock.
package recording

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"wattline/meter/energy"
)

// Request is one request as its client saw it. Stamps are ns; null where it never happened.
type Request struct {
	Tag      string   `json:"tag"`
	Who      string   `json:"who,omitempty"`
	Words    int64    `json:"n_in"`
	Max      int64    `json:"n_out"`
	ID       string   `json:"id,omitempty"`       // of the row, where wattline recorded it
	Key      uint64   `json:"key,omitempty"`      // that Idle lines name it by
	Upstream int      `json:"upstream,omitempty"` // which of the recorder's upstreams, from 0
	Slot     *int     `json:"slot,omitempty"`     // null where it is not known
	SlotAt   *int64   `json:"t_slot,omitempty"`   // when it became known; absent: when the slot started
	Send     int64    `json:"t_send"`
	Header   *int64   `json:"t_header"`
	Event0   *int64   `json:"t_event0"`
	Event1   *int64   `json:"t_event1"`
	Last     *int64   `json:"t_last"`
	End      int64    `json:"t_end"`
	Events   int64    `json:"events"`
	Timings  *Timings `json:"timings"`
	GapsUS   []int64  `json:"event_dt_us"` // between events, the first of them at most
	// Outputs, where present, is how many of the events are output: exactly those are in GapsUS. Without
	// it, tokens of which no event was kept are spread evenly.
	Outputs  *int64 `json:"outputs,omitempty"`
	Prompt   int64  `json:"prompt_total,omitempty"` // prompt tokens, told at PromptAt by a server that reports progress
	PromptAt int64  `json:"t_prompt_total,omitempty"`
	// Cancelled says whether the client left. If null, a request without timings counts as cancelled: the server
	// sends them last.
	Cancelled *bool `json:"cancelled,omitempty"`
	// Streams says whether the reply was to be a stream. If null, a reply with an unknown time of its head counts
	// as unstreamed, so its phases are known only at its end.
	Streams *bool `json:"streams,omitempty"`
	Refused bool  `json:"refused,omitempty"` // the server turned it away before it computed
	Several bool  `json:"several,omitempty"` // it asked for several completions

	Followed bool `json:"followed,omitempty"` // looks at the server's slots tell what nothing else tells
	Slots    int  `json:"slots,omitempty"`    // how many slots the server has, where that was known when it was sent
}

// Opening is the content of device.json: which device it is, and what its ledger began with. Attribution begins with the
// same.
type Opening struct {
	Device       string                `json:"device"`
	Name         string                `json:"name"`
	Source       string                `json:"source"`
	Driver       string                `json:"driver,omitempty"`
	Simulated    bool                  `json:"simulated,omitempty"`
	Config       energy.Config         `json:"config"`
	Coefficients []energy.Coefficients `json:"coefficients"` // by upstream
}

// Idle says that a request's slot was seen idle.
type Idle struct {
	Key uint64 `json:"idle"` // the Request's
	At  int64  `json:"t"`
}

// Look is what was seen of a request whose phases nothing else tells.
type Look struct {
	Key     uint64 `json:"look"` // the Request's
	At      int64  `json:"t"`
	Working bool   `json:"working"` // it held a slot
	Slot    int    `json:"slot"`    // -1: unknown
	Tokens  int64  `json:"tokens,omitempty"`
}

// Timings are the server's own counts and times, from its last event.
type Timings struct {
	CacheN      int64   `json:"cache_n"`
	PromptN     int64   `json:"prompt_n"`
	PromptMS    float64 `json:"prompt_ms"`
	PredictedN  int64   `json:"predicted_n"`
	PredictedMS float64 `json:"predicted_ms"`
}

// Mark names the phase of a recording that begins at At.
type Mark struct {
	Name string `json:"mark"`
	At   int64  `json:"t"`
}

// Traffic is the content of requests.jsonl.
type Traffic struct {
	Requests []Request
	Marks    []Mark
	Idles    []Idle
	Looks    []Look
}

// ReadRequests reads requests.jsonl: a request a line, or a mark.
func ReadRequests(f io.Reader) (*Traffic, error) {
	var t Traffic
	lines := bufio.NewReader(f)
	for n := 1; ; n++ {
		line, readErr := lines.ReadBytes('\n')
		if line = bytes.TrimSpace(line); len(line) > 0 {
			if err := t.add(line); err != nil && !errors.Is(readErr, io.EOF) { // else a recording that was cut short ends in it
				return nil, fmt.Errorf("recording: requests.jsonl line %d: %w", n, err)
			}
		}
		if errors.Is(readErr, io.EOF) {
			return &t, nil
		}
		if readErr != nil {
			return nil, fmt.Errorf("recording: read requests.jsonl: %w", readErr)
		}
	}
}

func (t *Traffic) add(line []byte) error {
	var m Mark
	if err := json.Unmarshal(line, &m); err != nil {
		return err
	}
	if m.Name != "" {
		t.Marks = append(t.Marks, m)
		return nil
	}
	var idle Idle
	if err := json.Unmarshal(line, &idle); err != nil {
		return err
	}
	if idle.Key != 0 {
		t.Idles = append(t.Idles, idle)
		return nil
	}
	var look Look
	if err := json.Unmarshal(line, &look); err == nil && look.Key != 0 {
		t.Looks = append(t.Looks, look)
		return nil
	}
	var q Request
	if err := json.Unmarshal(line, &q); err != nil {
		return err
	}
	if q.Send == 0 || q.End < q.Send {
		return errors.New("a request needs t_send and a later t_end")
	}
	t.Requests = append(t.Requests, q)
	return nil
}

// seen lists what looks at the server's slots told.
func (t *Traffic) seen() (events []energy.Event) {
	place := map[uint64]uint64{}
	for i := range t.Requests {
		if k := t.Requests[i].Key; k != 0 {
			place[k] = uint64(i) + 1
		}
	}
	for _, idle := range t.Idles {
		if key := place[idle.Key]; key != 0 {
			events = append(events, energy.Event{Kind: energy.SlotIdle, Request: key, At: idle.At})
		}
	}
	for _, o := range t.Looks {
		e := energy.Event{Kind: energy.Waiting, Request: place[o.Key], At: o.At, Slot: o.Slot, Tokens: o.Tokens}
		if o.Working {
			e.Kind = energy.Working
		}
		if e.Request != 0 {
			events = append(events, e)
		}
	}
	return events
}

// events lists the request's events, in order.
func (q *Request) events(key uint64, upstream int) []energy.Event {
	late := q.Header == nil // an unstreamed reply: its phases show only at its end
	if q.Streams != nil {
		late = !*q.Streams
	}
	e := []energy.Event{{Kind: energy.Arrive, Request: key, At: q.Send, Upstream: upstream, PromptHint: q.Words, Late: late, Followed: q.Followed, Slots: q.Slots}}
	end := energy.Event{Kind: energy.End, Request: key, At: q.End, Counts: energy.Counts{Cancelled: q.Timings == nil, Refused: q.Refused, Several: q.Several, MaxTokens: q.Max}}
	if q.Cancelled != nil {
		end.Counts.Cancelled = *q.Cancelled
	}
	if t := q.Timings; t != nil {
		end.Counts.Known = true
		end.Counts.PromptTokens, end.Counts.CachedTokens = t.PromptN+t.CacheN, t.CacheN
		end.Counts.OutputTokens = t.PredictedN
		end.Counts.Prefill = time.Duration(math.Round(t.PromptMS * 1e6))
		end.Counts.Decode = time.Duration(math.Round(t.PredictedMS * 1e6))
	}
	if q.Header != nil {
		start := energy.Event{Kind: energy.SlotStart, Request: key, At: *q.Header}
		if q.Slot != nil && q.SlotAt == nil {
			start.Slot, start.SlotKnown = *q.Slot, true
		}
		e = append(e, start)
	}
	if q.Slot != nil && q.SlotAt != nil {
		e = append(e, energy.Event{Kind: energy.SlotSeen, Request: key, At: *q.SlotAt, Slot: *q.Slot})
	}
	if q.Prompt > 0 {
		e = append(e, energy.Event{Kind: energy.Progress, Request: key, At: q.PromptAt, Tokens: q.Prompt, Total: q.Prompt})
	}
	e = append(e, q.tokens(key)...)
	return append(e, end)
}

// tokens are the events of generated output. The first event of a chat stream is role-only and comes
// with the first token's; the last may be the timings'. Only the first gaps were kept: tokens beyond
// them are spread evenly up to the last event.
func (q *Request) tokens(key uint64) []energy.Event {
	if q.Event1 == nil || q.Event0 == nil {
		return nil
	}
	n := q.Events - 2 // tokens after the first: less the role-only event and the first token's own
	if t := q.Timings; t != nil {
		n = t.PredictedN - 1
	}
	if q.Outputs != nil {
		n = *q.Outputs - 1
	}
	e := []energy.Event{{Kind: energy.FirstToken, Request: key, At: *q.Event1}}
	at := *q.Event1
	gaps := q.GapsUS
	if len(gaps) > 0 {
		gaps = gaps[1:] // between the role-only event and the first token
	}
	for _, g := range gaps {
		if n <= 0 {
			return e
		}
		at += g * 1000
		if at > q.End {
			break
		}
		e = append(e, energy.Event{Kind: energy.Decode, Request: key, At: at, Tokens: 1})
		n--
	}
	if q.Last == nil || *q.Last <= at {
		return e
	}
	for k := int64(1); k <= n; k++ {
		t := at + int64(float64(*q.Last-at)*float64(k)/float64(n))
		e = append(e, energy.Event{Kind: energy.Decode, Request: key, At: t, Tokens: 1})
	}
	return e
}
