package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"time"
)

// errLeft is why a request ended whose client left as planned.
var errLeft = errors.New("the client left, as the trace's did")

// departure is a client's planned leaving; nil: it stays.
type departure struct {
	after  time.Duration
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

// departing makes a context that ends some time after begin; after 0 or less is never.
func departing(ctx context.Context, after time.Duration) (context.Context, *departure) {
	if after <= 0 {
		return ctx, nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, &departure{after: after, cancel: cancel}
}

func (d *departure) begin() {
	if d != nil {
		d.timer = time.AfterFunc(d.after, func() { d.cancel(errLeft) })
	}
}

// left reports whether the client has left as planned.
func (d *departure) left(ctx context.Context) bool {
	return d != nil && errors.Is(context.Cause(ctx), errLeft)
}

func (d *departure) stop() {
	if d == nil {
		return
	}
	if d.timer != nil {
		d.timer.Stop()
	}
	d.cancel(nil)
}

// replyTokens are the tokens in a reply of /completion that was asked for them.
func replyTokens(body []byte, streamed bool) (out []int) {
	add := func(object []byte) {
		var event struct {
			Tokens []int `json:"tokens"`
		}
		if json.Unmarshal(object, &event) == nil {
			out = append(out, event.Tokens...)
		}
	}
	if !streamed {
		add(body)
		return out
	}
	for line := range bytes.Lines(body) {
		if object, ok := bytes.CutPrefix(line, []byte("data:")); ok {
			add(object)
		}
	}
	return out
}
