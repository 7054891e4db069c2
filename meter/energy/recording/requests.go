// Package recording feeds what `wattline serve --record` wrote to a ledger in order of arrival: the same
// ledger, offline. Whoever reads the files hands over the device's readings; requests.jsonl, one request
// a line as its client saw it, is read here (ReadRequests). All stamps are nanoseconds of one clock.
package recording

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"wattline/meter/energy"
)

// Request is one request as its client saw it. Stamps are ns; null where it never happened.
type Request struct {
	Tag     string   `json:"tag"`
	Who     string   `json:"who,omitempty"`
	Words   int64    `json:"n_in"`
	Max     int64    `json:"n_out"`
	Slot    *int     `json:"slot,omitempty"` // null where it is not known
	Send    int64    `json:"t_send"`
	Header  *int64   `json:"t_header"`
	Event0  *int64   `json:"t_event0"`
	Event1  *int64   `json:"t_event1"`
	Last    *int64   `json:"t_last"`
	End     int64    `json:"t_end"`
	Events  int64    `json:"events"`
	Timings *Timings `json:"timings"`
	GapsUS  []int64  `json:"event_dt_us"` // between events, the first of them at most
	// Cancelled says that the client left. A request without timings is taken as such: the server sends
	// them last.
	Cancelled bool `json:"cancelled,omitempty"`
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

// Traffic is what requests.jsonl holds.
type Traffic struct {
	Requests []Request
	Marks    []Mark
}

// ReadRequests reads requests.jsonl: a request a line, or a mark.
func ReadRequests(f io.Reader) (*Traffic, error) {
	var t Traffic
	lines := bufio.NewReader(f)
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if line = bytes.TrimSpace(line); len(line) > 0 {
			if err := t.add(line); err != nil {
				return nil, fmt.Errorf("recording: requests.jsonl line %d: %w", n, err)
			}
		}
		if errors.Is(err, io.EOF) {
			return &t, nil
		}
		if err != nil {
			return nil, fmt.Errorf("recording: read requests.jsonl: %w", err)
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

// events lists the request's events, in order.
func (q *Request) events(key uint64, upstream int) []energy.Event {
	late := q.Header == nil // an unstreamed reply: its phases show only at its end
	e := []energy.Event{{Kind: energy.Arrive, Request: key, At: q.Send, Upstream: upstream, PromptHint: q.Words, Late: late}}
	end := energy.Event{Kind: energy.End, Request: key, At: q.End, Counts: energy.Counts{Cancelled: q.Cancelled || q.Timings == nil}}
	if t := q.Timings; t != nil {
		end.Counts.Known = true
		end.Counts.PromptTokens, end.Counts.CachedTokens = t.PromptN+t.CacheN, t.CacheN
		end.Counts.OutputTokens = t.PredictedN
		end.Counts.Prefill = time.Duration(t.PromptMS * 1e6)
		end.Counts.Decode = time.Duration(t.PredictedMS * 1e6)
	}
	if q.Header != nil {
		start := energy.Event{Kind: energy.SlotStart, Request: key, At: *q.Header}
		if q.Slot != nil {
			start.Slot, start.SlotKnown = *q.Slot, true
		}
		e = append(e, start)
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
	e := []energy.Event{{Kind: energy.FirstToken, Request: key, At: *q.Event1}}
	at := *q.Event1
	gaps := q.GapsUS
	if len(gaps) > 0 {
		gaps = gaps[1:] // between the role-only event and the first token
	}
	for _, g := range gaps {
		if n == 0 {
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
