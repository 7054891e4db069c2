package top

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"wattline/sink/console"
)

// The admin listener's promises and bounds (sink/console/API.md).
const (
	silence  = 15 * time.Second // without a byte, after which the connection is lost
	maxEvent = 16 << 20         // bytes of one event's line
	again    = 500 * time.Millisecond
	patience = 10 * time.Second // for a successor of a server that has ended
)

// event is one server-sent event; of a connection that ended, err.
type event struct {
	kind string
	data []byte
	err  error
}

// follow sends the events of connections to /api/live, one connection after the other, until ctx ends or the last event,
// an error that another connection does not mend: the first one failed, or none came within patience.
func follow(ctx context.Context, probe console.Probe, patience time.Duration, to chan<- event) {
	send := func(e event) bool {
		select {
		case to <- e:
			return true
		case <-ctx.Done():
			return false
		}
	}
	defer close(to)
	connected, lost := false, time.Now()
	for {
		began, err := connection(ctx, probe, send)
		if began {
			connected, lost = true, time.Now()
		}
		if ctx.Err() != nil {
			return
		}
		if !connected || time.Since(lost) > patience {
			send(event{err: err})
			return
		}
		if !send(event{kind: lostEvent, data: []byte(err.Error())}) {
			return
		}
		select {
		case <-time.After(again):
		case <-ctx.Done():
			return
		}
	}
}

// lostEvent tells of the end of a connection; its data is the reason as a text.
const lostEvent = "connection lost"

// connection sends the events of one connection; began: there was one.
func connection(ctx context.Context, probe console.Probe, send func(event) bool) (began bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	probe.Path = "/api/live"
	resp, err := probe.Open(ctx)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	if kind := resp.Header.Get("Content-Type"); !strings.HasPrefix(kind, "text/event-stream") {
		return false, fmt.Errorf("%s answers with %s, not with events: is it wattline's admin listener?", probe.Admin, kind)
	}
	watch := time.AfterFunc(silence, func() { cancel(fmt.Errorf("%s has been silent for %v", probe.Admin, silence)) })
	defer watch.Stop()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxEvent)
	var e event
	for lines.Scan() {
		watch.Reset(silence)
		line := lines.Bytes()
		if kind, ok := bytes.CutPrefix(line, []byte("event: ")); ok {
			e.kind = string(kind)
		} else if data, ok := bytes.CutPrefix(line, []byte("data: ")); ok {
			e.data = bytes.Clone(data)
		} else if len(line) == 0 && e.kind != "" {
			if !send(e) {
				return true, ctx.Err()
			}
			e = event{}
		}
	}
	switch err := lines.Err(); {
	case context.Cause(ctx) != nil:
		return true, context.Cause(ctx)
	case err == nil || errors.Is(err, io.ErrUnexpectedEOF):
		return true, fmt.Errorf("the wattline at %s has ended", probe.Admin)
	default:
		return true, fmt.Errorf("the connection to %s is lost: %w", probe.Admin, err)
	}
}
