package energy

import "time"

// Shape says which of a device's sources tells how its power changes in time.
type Shape uint8

const (
	// ShapeSamples: every power sample is the mean since the one before it (a driver's sample buffer, 20 ms).
	ShapeSamples Shape = iota
	// ShapeCounter: the differences of the energy counter, as fine as it ticks.
	ShapeCounter
	// ShapeAverage: every power sample is the mean over Config.Average, which is longer than the
	// time between samples. It is deconvolved. If there is a counter too, ShapeCounter is used.
	ShapeAverage
)

func (s Shape) String() string {
	switch s {
	case ShapeCounter:
		return "counter"
	case ShapeAverage:
		return "average"
	}
	return "ring"
}

// Config describes a device's sources. The zero value is samples scaled to a counter.
type Config struct {
	Shape     Shape
	NoCounter bool          // the device counts no energy: the samples' integral is taken
	Average   time.Duration // ShapeAverage: length of the moving average; 0 is 1 s
	Duty      float64       // fraction of each period that the sensor measures (A100: 0.25); 0 means all
	Lag       time.Duration // how far the shape trails the load; 0 takes a usual value, and learns it for ShapeCounter
	Frozen    bool          // learn nothing: baseline, lag and coefficients stay as given
	Baseline  Baseline      // idle draw known from before; zero: none
	SettleMax time.Duration // longest wait for an unknown phase or token count; 0 is 30 s
}

func (c Config) withDefaults() Config {
	if c.Average == 0 {
		c.Average = time.Second
	}
	if c.Duty == 0 {
		c.Duty = 1
	}
	if c.Shape == ShapeAverage && !c.NoCounter {
		c.Shape = ShapeCounter // its steps are finer than the average, and the truth
	}
	if c.SettleMax == 0 {
		c.SettleMax = 30 * time.Second
	}
	return c
}

// MaxUpstreams is how many servers on one device are told apart. The requests of further ones are taken as
// the last one's.
const MaxUpstreams = 8

// slack is how long after its stamp an event may still be handed over, since goroutines report events in no exact
// order.
const slack = 50 * int64(time.Millisecond)

// Ledger is the ledger of one device. It is not safe for concurrent use; one goroutine owns it.
type Ledger struct {
	cfg       Config
	queue     eventQueue
	segmenter segmenter
	src       source
	allocator allocator

	reqs         []*[chunkLen]request // see req
	created      int32                // how many of them were ever used
	freeRequests []int32              // of those, the ones that are not now
	byKey        map[uint64]int32
	groups       []*decodeGroup
	busyGroups   []*decodeGroup // those that have had a request, in order: the others have nothing to divide

	now     int64 // latest stamp of any event, or told by Advance
	results []Result
	taken   int // results already handed out
}

// New returns an empty ledger. Its account begins with the first counter reading, or the first power sample if
// there is no counter.
func New(cfg Config) *Ledger {
	cfg = cfg.withDefaults()
	l := &Ledger{cfg: cfg, byKey: map[uint64]int32{}}
	l.src = newSource(cfg)
	l.allocator = newAllocator(cfg)
	return l
}

// AddUpstream registers a server that runs on this device and returns its index for Arrive events.
// unified says that its slots are thought to share one KV cache (--kv-unified); what is true is learnt where slots
// are known. Zero Coefficients mean that nothing is known. Beyond MaxUpstreams it returns the last one's index.
func (l *Ledger) AddUpstream(c Coefficients, unified bool) int {
	if len(l.groups) == MaxUpstreams {
		return MaxUpstreams - 1
	}
	l.groups = append(l.groups, newDecodeGroup(len(l.groups), c, unified))
	l.allocator.prefillPeakMW = max(l.allocator.prefillPeakMW, c.PeakMW)
	l.allocator.usualDecodeMW = max(l.allocator.usualDecodeMW, c.DecodeMW)
	return len(l.groups) - 1
}

// SetCoefficients gives an upstream the coefficients of the model that it serves from now on.
func (l *Ledger) SetCoefficients(upstream int, c Coefficients) {
	g := l.groups[upstream]
	known := newDecodeGroup(upstream, c, g.sharing != splitCaches)
	if g.members == 0 { // shares of current decoders follow the old assumption
		g.sharing = known.sharing
	}
	g.model = known.model
	g.model.assumed = g.sharing
}

// Coefficients returns what has been learnt of an upstream's work.
func (l *Ledger) Coefficients(upstream int) Coefficients {
	g := l.groups[upstream]
	c := g.model.coefficients()
	c.Unified, c.SharedCache = g.sharing != splitCaches, g.sharing == sharedCache
	c.PeakMW, c.DecodeMW = l.allocator.prefillPeakMW, l.allocator.usualDecodeMW
	return c
}

// Config returns the ledger's configuration, defaults filled in.
func (l *Ledger) Config() Config { return l.cfg }

// Baseline returns what has been learnt of the idle draw.
func (l *Ledger) Baseline() Baseline { return l.allocator.idle.Baseline }

// Power adds a power sample: mw milliwatts, read from the source at ns. Samples of one source come in
// order of time, in batches of any size.
func (l *Ledger) Power(at, mw int64) {
	if l.src.power(at, mw) {
		l.settle()
	}
}

// Counter adds a reading of the energy counter: uj microjoules, read between the stamps before and after. The closer
// two readings, the better the time of a tick is known.
func (l *Ledger) Counter(before, after, uj int64) { l.Tick(before, after, 0, 0, uj) }

// Tick adds a reading of the energy counter; its last step is known to lie after lo and not after hi. 0, 0 means
// that only the readings tell.
func (l *Ledger) Tick(before, after, lo, hi, uj int64) {
	more := l.src.counter(before, after, lo, hi, uj)
	if at := l.src.lost; at != 0 {
		l.src.lost = 0
		l.Event(Event{Kind: Lost, At: at})
	}
	if more {
		l.settle()
	}
}

// Event adds an event. An unknown request's events are ignored and counted (Stats).
func (l *Ledger) Event(e Event) {
	l.setNow(e.At)
	switch {
	case e.Kind == Arrive:
		l.arrive(e)
	case e.Kind < Arrive:
		l.enqueue(e, -1)
	default:
		i, ok := l.byKey[e.Request]
		if !ok || l.req(i).ended && e.Kind != SlotIdle && e.Kind != Waiting && e.Kind != Working {
			l.allocator.stats.UnknownEvents++
			return
		}
		l.addEvent(e, i)
	}
	l.settle()
}

// Advance says that the clock shows now: every event up to now, minus a small slack, has been handed over. Without
// it a ledger without new data settles nothing.
func (l *Ledger) Advance(now int64) {
	l.setNow(now)
	l.settle()
}

func (l *Ledger) setNow(now int64) {
	if now > l.now {
		l.now = now
	}
}

// Next returns the next final result, in the order in which they became final.
func (l *Ledger) Next() (Result, bool) {
	if l.taken == len(l.results) {
		l.results, l.taken = l.results[:0], 0
		return Result{}, false
	}
	l.taken++
	return l.results[l.taken-1], true
}

// Close settles everything, as of now. Requests still in flight become partial; what the counter shows beyond the
// last sample becomes residual. Nothing may be added afterwards.
func (l *Ledger) Close(now int64) {
	l.setNow(now + slack)
	l.src.close()
	l.segmenter.limit = l.now
	l.segmenter.closing = true
	l.settle()
	l.allocator.close(l)
}

// settle goes as far as the data allow: it cuts windows, distributes energy slices to them, and settles complete
// ones. A slice's windows are settled before the next slice is taken, so what has been learnt at any point
// depends on the data alone.
func (l *Ledger) settle() {
	if o := l.src.opening; o > 0 {
		l.src.opening = 0
		l.src.handed += o
		l.allocator.residual(o)
	}
	for {
		l.segment()
		p, ok := l.src.next(l)
		if !ok {
			return
		}
		l.distribute(p)
		l.settleFilled()
	}
}
