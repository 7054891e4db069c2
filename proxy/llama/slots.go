package llama

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"wattline/meter"
)

// Slot is one slot of the server at the moment of the reply.
type Slot struct {
	ID   int
	Busy bool

	// The server reports these of a busy slot only.
	Task      meter.Int // number of its task; later tasks have greater ones
	Streams   meter.Int // 1 where its reply is a stream
	MaxTokens meter.Int
	Prompt    meter.Int // tokens of its prompt
	Decoded   int64     // tokens generated so far
}

// ErrNoSlots: the upstream is no llama-server, or one that does not show its slots.
var ErrNoSlots = errors.New("llama: the upstream does not list its slots as llama-server does")

// slotsTimeout bounds a request: a server answers only after the batch that it is evaluating.
const slotsTimeout = 3 * time.Second

// Slots reads /slots. n is the size of the reply.
func (c *Client) Slots(ctx context.Context) (slots []Slot, n int, err error) {
	status, body, err := c.get(ctx, slotsTimeout, "/slots")
	if err != nil {
		return nil, 0, err
	}
	switch status {
	case http.StatusOK:
		slots, err = ParseSlots(body)
		return slots, len(body), err
	case http.StatusServiceUnavailable, http.StatusTooManyRequests: // it loads, or no slot is free (fail_on_no_slot)
		return nil, len(body), fmt.Errorf("llama: /slots: status %d", status)
	}
	return nil, len(body), fmt.Errorf("%w: status %d (an API key, a router, or a server with --no-slots)", ErrNoSlots, status)
}

// slotJSON is a slot on the wire: llama.cpp's tools/server, server_slot::to_json.
type slotJSON struct {
	ID     *int   `json:"id"`
	Busy   *bool  `json:"is_processing"`
	Task   *int64 `json:"id_task"`
	Prompt *int64 `json:"n_prompt_tokens"`
	Params struct {
		Streams   *bool  `json:"stream"`
		MaxTokens *int64 `json:"max_tokens"`
		Predict   *int64 `json:"n_predict"`
	} `json:"params"`
	Next json.RawMessage `json:"next_token"` // an object; a list of one since 2025
}

type nextJSON struct {
	Decoded int64 `json:"n_decoded"`
}

// ParseSlots reads the body of a reply to GET /slots.
func ParseSlots(body []byte) ([]Slot, error) {
	var wire []slotJSON
	if err := json.Unmarshal(body, &wire); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoSlots, err)
	}
	out := make([]Slot, 0, len(wire))
	for i := range wire {
		w := &wire[i]
		if w.ID == nil || w.Busy == nil || *w.ID < 0 {
			return nil, fmt.Errorf("%w: slot %d has no id or no is_processing", ErrNoSlots, i)
		}
		s := Slot{ID: *w.ID, Busy: *w.Busy, Task: nullable(w.Task), Prompt: nullable(w.Prompt), Decoded: decoded(w.Next)}
		if w.Params.Streams != nil {
			s.Streams = meter.Some(0)
			if *w.Params.Streams {
				s.Streams = meter.Some(1)
			}
		}
		if s.MaxTokens = nullable(w.Params.MaxTokens); !s.MaxTokens.Valid {
			s.MaxTokens = nullable(w.Params.Predict)
		}
		out = append(out, s)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: the list is empty", ErrNoSlots)
	}
	return out, nil
}

func nullable(v *int64) meter.Int {
	if v == nil {
		return meter.Int{}
	}
	return meter.Some(*v)
}

func decoded(next json.RawMessage) int64 {
	var list []nextJSON
	if json.Unmarshal(next, &list) == nil && len(list) > 0 {
		return list[0].Decoded
	}
	var one nextJSON
	if json.Unmarshal(next, &one) != nil {
		return 0
	}
	return one.Decoded
}
