package otlp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"wattline/meter"
)

// collector is an Uploader with a mood: it answers each call with what answer returns.
type collector struct {
	mu     sync.Mutex // guards what follows
	calls  int
	traces int // that it confirmed
	answer func(ctx context.Context, call int) error
}

func (c *collector) UploadTraces(ctx context.Context, batch []*tracepb.ResourceSpans) error {
	c.mu.Lock()
	c.calls++
	call := c.calls
	c.mu.Unlock()
	if c.answer != nil {
		if err := c.answer(ctx, call); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range batch[0].GetScopeSpans()[0].GetSpans() {
		if s.GetKind() == tracepb.Span_SPAN_KIND_SERVER {
			c.traces++
		}
	}
	return nil
}

func (c *collector) counts() (calls, traces int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls, c.traces
}

// end lets a request end; its row is not final yet.
func end(t *Tracer, r *Route, seq uint64) *meter.Record {
	rec := ok()
	rec.ID = fmt.Sprint("row-", seq)
	rec.EnergyQuality = meter.EnergyPending
	r.Trace(seq, func(string) []byte { return nil })
	r.Sent(seq, 1_000)
	r.Ended(seq, rec.DurationUs.V*1000, &rec)
	return &rec
}

// endFinal ends a request with a row that is final at once.
func endFinal(t *Tracer, r *Route, seq uint64) {
	rec := end(t, r, seq)
	settled := *rec
	settled.EnergyQuality = meter.EnergyMeasured
	t.Settled(&settled)
}

func newTracer(t *testing.T, cfg Config) (*Tracer, *Route) {
	t.Helper()
	cfg.Ratio = 1
	tr, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return tr, tr.Route("http")
}

func within(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}

// A trace leaves when its row is final, not before.
func TestTraceWaitsForTheFinalRow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &collector{}
		tr, r := newTracer(t, Config{Upload: c})
		rec := end(tr, r, 1)
		time.Sleep(20 * time.Second)
		if calls, _ := c.counts(); calls != 0 {
			t.Errorf("a trace was sent before its energy was known")
		}
		if s := tr.Stats(); s.Waiting != 1 {
			t.Errorf("waiting: %+v", s)
		}
		settled := *rec
		settled.EnergyQuality = meter.EnergyMeasured
		tr.Settled(&settled)
		time.Sleep(2 * time.Second)
		if _, traces := c.counts(); traces != 1 {
			t.Errorf("%d traces were sent within 2 s of the final row", traces)
		}
		ctx, cancel := within(time.Second)
		defer cancel()
		if err := tr.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
}

// A row that never becomes final keeps its trace and holds no memory.
func TestOverdueTraceIsSentAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &collector{}
		tr, r := newTracer(t, Config{Upload: c, MaxWait: time.Minute})
		end(tr, r, 1)
		time.Sleep(59 * time.Second)
		if calls, _ := c.counts(); calls != 0 {
			t.Error("sent before FlushInterval was over")
		}
		time.Sleep(10 * time.Second)
		if _, traces := c.counts(); traces != 1 || tr.Stats().Waiting != 0 {
			t.Errorf("%d traces were sent; %+v", traces, tr.Stats())
		}
		tr.Settled(&meter.Record{ID: "row-1"}) // too late, and harmless
		stop(t, tr, 0)
	})
}

func stop(t *testing.T, tr *Tracer, lost int) {
	t.Helper()
	ctx, cancel := within(5 * time.Second)
	defer cancel()
	err := tr.Stop(ctx)
	if lost == 0 && err != nil {
		t.Error(err)
	}
	if lost > 0 && (err == nil || !strings.Contains(err.Error(), fmt.Sprint(lost, " traces"))) {
		t.Errorf("Stop says %v, not that %d traces were lost", err, lost)
	}
}

// A collector that restarts loses nothing as long as the queue has room.
func TestRestartOfTheCollectorLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		c := &collector{answer: func(context.Context, int) error {
			if time.Since(start) < time.Minute {
				return errors.New("connection refused")
			}
			return nil
		}}
		var log bytes.Buffer
		tr, r := newTracer(t, Config{Upload: c, Log: slog.New(slog.NewTextHandler(&log, nil))})
		for seq := range uint64(300) {
			endFinal(tr, r, seq+1)
			time.Sleep(300 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		stop(t, tr, 0)
		if s := tr.Stats(); s.Sent != 300 || s.Dropped+s.Failed != 0 || s.LastError != "" || s.LastErrorAt.IsZero() {
			t.Errorf("%+v", s)
		}
		if n := strings.Count(log.String(), "do not arrive"); n < 1 || n > 3 {
			t.Errorf("a minute's failure made %d log lines:\n%s", n, log.String())
		}
		if !strings.Contains(log.String(), "arrive at the collector again") {
			t.Errorf("the log does not say that it works again:\n%s", log.String())
		}
	})
}

// A collector that never answers costs a bounded queue; what does not fit is counted, and every trace is
// accounted for at the end.
func TestHangingCollectorIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &collector{answer: func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() }}
		tr, r := newTracer(t, Config{Upload: c, Capacity: 1000})
		const n = 5000
		for seq := range uint64(n) {
			start := time.Now()
			endFinal(tr, r, seq+1)
			if d := time.Since(start); d != 0 {
				t.Fatalf("the data path waited %v", d)
			}
			time.Sleep(time.Millisecond)
			if w := tr.Stats().Waiting; w > 2000 {
				t.Fatalf("%d traces wait", w)
			}
		}
		waiting := tr.Stats().Waiting
		stop(t, tr, waiting)
		s := tr.Stats()
		if s.Sent != 0 || s.Waiting != 0 || s.Dropped+s.Failed != n {
			t.Errorf("of %d traces the counters know %+v", n, s)
		}
	})
}

// A batch that a collector will never take does not hold up the ones behind it for good.
func TestPoisonedBatchIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &collector{}
		c.answer = func(context.Context, int) error { return errors.New("400 Bad Request") }
		tr, r := newTracer(t, Config{Upload: c})
		endFinal(tr, r, 1)
		time.Sleep(4 * time.Minute)
		if s := tr.Stats(); s.Failed != 1 || s.Waiting != 0 {
			t.Errorf("%+v", s)
		}
		c.mu.Lock()
		c.answer = nil
		c.mu.Unlock()
		endFinal(tr, r, 2)
		stop(t, tr, 0)
		if s := tr.Stats(); s.Sent != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// What the collector refuses of a batch that arrived is counted, and not sent again.
func TestPartialSuccessIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &collector{answer: func(context.Context, int) error {
			return errors.New("OTLP partial success: too old (3 spans rejected)")
		}}
		tr, r := newTracer(t, Config{Upload: c})
		endFinal(tr, r, 1)
		time.Sleep(time.Minute)
		if calls, _ := c.counts(); calls != 1 {
			t.Errorf("the batch was sent %d times", calls)
		}
		stop(t, tr, 0)
		if s := tr.Stats(); s.Sent != 1 || s.SpansRejected != 3 || s.LastError == "" {
			t.Errorf("%+v", s)
		}
	})
}

// An Uploader that panics ends nothing but its batch.
func TestPanickingUploaderIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &collector{answer: func(_ context.Context, call int) error {
			if call == 1 {
				panic("boom")
			}
			return nil
		}}
		tr, r := newTracer(t, Config{Upload: c})
		endFinal(tr, r, 1)
		time.Sleep(time.Minute)
		stop(t, tr, 0)
		if s := tr.Stats(); s.Sent != 1 || !s.LastErrorAt.Before(time.Now()) {
			t.Errorf("%+v", s)
		}
	})
}

// Stop sends what waits for its energy as it is.
func TestStopSendsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &collector{}
		tr, r := newTracer(t, Config{Upload: c})
		end(tr, r, 1)
		endFinal(tr, r, 2)
		stop(t, tr, 0)
		if _, traces := c.counts(); traces != 2 {
			t.Errorf("%d traces were sent", traces)
		}
		endFinal(tr, r, 3) // behind the end: dropped and counted
		if s := tr.Stats(); s.Dropped != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// Traces beyond the capacity are dropped where they would wait for their energy, too.
func TestWaitingForEnergyIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, r := newTracer(t, Config{Upload: &collector{}, Capacity: 10})
		for seq := range uint64(25) {
			end(tr, r, seq+1)
		}
		if s := tr.Stats(); s.Waiting != 10 || s.Dropped != 15 {
			t.Errorf("%+v", s)
		}
		stop(t, tr, 0)
	})
}

func TestConfigIsChecked(t *testing.T) {
	for name, cfg := range map[string]Config{
		"no uploader": {}, "ratio": {Upload: &collector{}, Ratio: 1.5}, "incoming": {Upload: &collector{}, Incoming: "maybe"},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
