package metrics

import (
	"context"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"wattline/meter"
)

// options is one attribute set as every instrument takes it, and the sums that its counters have not been given yet.
type options struct {
	add    []metric.AddOption
	record []metric.RecordOption

	pending [rowCounters]float64 // guarded by pendingSums.mu, as is touched
	touched uint                 // a bit for each counter that has a pending sum, which may be 0
}

func newOptions(kv ...attribute.KeyValue) *options {
	set := metric.WithAttributeSet(attribute.NewSet(kv...))
	return &options{add: []metric.AddOption{set}, record: []metric.RecordOption{set}}
}

// pendingSums adds up a batch's counter increments, so that each counter is updated once a batch, not once a
// row. A row whose trace is sampled is added at once: its trace becomes the exemplar.
type pendingSums struct {
	counters [rowCounters]metric.Float64Counter

	mu   sync.Mutex // guards list and the pending sums of its elements
	list []*options // those with pending sums
}

func (s *pendingSums) add(ctx context.Context, counter int, v float64, o *options) {
	if trace.SpanContextFromContext(ctx).IsSampled() {
		s.counters[counter].Add(ctx, v, o.add...)
		return
	}
	if o.touched == 0 {
		s.list = append(s.list, o)
	}
	o.touched |= 1 << counter
	o.pending[counter] += v
}

// count adds a column that counts so many parts a unit, null not at all. A counter cannot go down:
// negative values, which no column should have, are left out.
func (s *pendingSums) count(ctx context.Context, counter int, v meter.Int, perUnit float64, o *options) {
	if v.Valid && v.V >= 0 {
		s.add(ctx, counter, float64(v.V)/perUnit, o)
	}
}

// flush adds the pending sums to the counters.
func (s *pendingSums) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx := context.Background()
	for _, o := range s.list {
		for c := range rowCounters {
			if o.touched&(1<<c) != 0 {
				s.counters[c].Add(ctx, o.pending[c], o.add...)
				o.pending[c] = 0
			}
		}
		o.touched = 0
	}
	s.list = s.list[:0]
}
