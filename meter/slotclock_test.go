package meter_test

import (
	"sync"
	"testing"

	"wattline/meter"
)

// stream is one on an otherwise silent upstream: its head, its first token and the server's prompt_ms.
func stream(slots *meter.SlotClock, headMs, firstMs int64, promptMs float64, first string) outcome {
	return exchange{slots: slots, headMs: headMs, pieces: []timed{at(firstMs, role, first), at(firstMs+10, last(2, promptMs), done)}}.run()
}

func TestSlotStartOfACurrentServer(t *testing.T) {
	var slots meter.SlotClock
	for range 5 {
		o := stream(&slots, 5, 106, 100, token)
		wantInt(t, "queue_us", o.Record.QueueUs, 3_000)
	}
	// It queued for 800 ms: the head came with the slot.
	o := stream(&slots, 800, 901, 100, token)
	wantInt(t, "queue_us", o.Record.QueueUs, 798_000)
	// A parser withheld the first 300 ms of a tool call: T1 - prompt_ms would call them queueing.
	o = stream(&slots, 5, 405, 100, tool)
	wantInt(t, "queue_us behind a withheld token", o.Record.QueueUs, 3_000)
	if o.details().QueueSource != meter.SourceHead {
		t.Errorf("source %q", o.details().QueueSource)
	}
	// Without prompt_ms, a stream of the same server has its head.
	o = exchange{slots: &slots, headMs: 50, path: "/v1/messages", pieces: []timed{at(100, `{"type":"content_block_delta","delta":{"text":"x"}}`)}}.run()
	wantInt(t, "queue_us without timings", o.Record.QueueUs, 48_000)
	wantInt(t, "prefill_us without timings", o.Record.PrefillUs, 50_000)
	if o.details().PrefillSource != meter.SourceMarks {
		t.Errorf("source %q", o.details().PrefillSource)
	}
}

// TestSlotStartOfAnOldServer: builds before llama.cpp #23884 send a stream's head when the prompt is done.
func TestSlotStartOfAnOldServer(t *testing.T) {
	var slots meter.SlotClock
	for range 3 {
		o := stream(&slots, 1000, 1001, 600, token)
		wantInt(t, "queue_us", o.Record.QueueUs, 1001_000-600_000-2_000)
		if o.details().QueueSource != meter.SourceServer {
			t.Errorf("source %q", o.details().QueueSource)
		}
	}
	o := exchange{slots: &slots, headMs: 500, pieces: []timed{at(501, token)}, unclean: true}.run()
	wantInt(t, "queue_us of a cut stream, whose head proves nothing", o.Record.QueueUs, -1)
	wantInt(t, "prefill_us of a cut stream, whose head proves nothing", o.Record.PrefillUs, -1)
	// It was upgraded: sixteen streams later the head is trusted again.
	for range 16 {
		stream(&slots, 5, 106, 100, token)
	}
	o = exchange{slots: &slots, headMs: 500, pieces: []timed{at(800, token)}, unclean: true}.run()
	wantInt(t, "queue_us after the upgrade", o.Record.QueueUs, 498_000)
}

// TestSlotStartWithoutWitnesses: alone, a stream is judged by itself, and a server that does not say it
// is llama.cpp is not trusted.
func TestSlotStartWithoutWitnesses(t *testing.T) {
	o := stream(nil, 5, 106, 100, token)
	wantInt(t, "agreeing", o.Record.QueueUs, 3_000)
	o = stream(nil, 100, 106, 100, token)
	wantInt(t, "head too late", o.Record.QueueUs, 4_000)
	o = stream(nil, 5, 406, 100, token)
	wantInt(t, "head too early, nothing known", o.Record.QueueUs, 304_000)
	cut := exchange{headMs: 50, pieces: []timed{at(100, token)}, unclean: true}
	wantInt(t, "unknown server", cut.run().Record.QueueUs, -1)
	cut.headers = map[string]string{"Server": "llama.cpp"}
	wantInt(t, "llama-server", cut.run().Record.QueueUs, 48_000)
	// Short prompts cannot tell the cases apart: they are no witnesses.
	var slots meter.SlotClock
	for range 20 {
		stream(&slots, 50, 51, 4, token)
	}
	o = exchange{slots: &slots, headMs: 50, pieces: []timed{at(100, token)}, unclean: true}.run()
	wantInt(t, "after streams that prove nothing", o.Record.QueueUs, -1)
}

func TestSlotClockIsShared(t *testing.T) {
	var slots meter.SlotClock
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				o := stream(&slots, 5, 106, 100, token)
				if o.Record.QueueUs != meter.Some(3_000) {
					t.Errorf("queue_us = %v", o.Record.QueueUs)
				}
			}
		})
	}
	wg.Wait()
}
