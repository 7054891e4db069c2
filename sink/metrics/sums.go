package metrics

import (
	"context"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"wattline/meter"
)

// options is one attribute set as every instrument takes it, and what its counters have still to be given.
type options struct {
	add    []metric.AddOption
	record []metric.RecordOption

	due [rowCounters]float64 // guarded by the sums' lock, as is owed
	owe uint                 // a bit for each counter that due has something for, be it 0
}

func newOptions(kv ...attribute.KeyValue) *options {
	set := metric.WithAttributeSet(attribute.NewSet(kv...))
	return &options{add: []metric.AddOption{set}, record: []metric.RecordOption{set}}
}

// sums collect what a batch of rows adds to the counters, so that an addition costs something once a batch
// and not once a row. A row whose trace is sampled is added at once: its trace becomes the exemplar.
type sums struct {
	counters [rowCounters]metric.Float64Counter

	mu   sync.Mutex // held by whoever records a row, and by pay
	owed []*options // those with something due
}

func (s *sums) add(ctx context.Context, counter int, v float64, o *options) {
	if trace.SpanContextFromContext(ctx).IsSampled() {
		s.counters[counter].Add(ctx, v, o.add...)
		return
	}
	if o.owe == 0 {
		s.owed = append(s.owed, o)
	}
	o.owe |= 1 << counter
	o.due[counter] += v
}

// count adds a column that counts so many parts a unit, null not at all. A counter cannot go down:
// negative values, which no column should have, are left out.
func (s *sums) count(ctx context.Context, counter int, v meter.Int, perUnit float64, o *options) {
	if v.Valid && v.V >= 0 {
		s.add(ctx, counter, float64(v.V)/perUnit, o)
	}
}

// pay gives the counters what is due.
func (s *sums) pay() {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx := context.Background()
	for _, o := range s.owed {
		for c := range rowCounters {
			if o.owe&(1<<c) != 0 {
				s.counters[c].Add(ctx, o.due[c], o.add...)
				o.due[c] = 0
			}
		}
		o.owe = 0
	}
	s.owed = s.owed[:0]
}
