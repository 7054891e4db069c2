package energy

import "time"

// Shape says which of a device's power sources tells how the draw runs in time.
type Shape uint8

const (
	// ShapeSteps: every power sample is the mean since the one before it (a driver's ring, 20 ms).
	ShapeSteps Shape = iota
	// ShapeCounter: the differences of the energy counter, as fine as it ticks.
	ShapeCounter
	// ShapeAverage: every power sample is the mean over Config.Average, which is longer than the
	// time between samples. It is deconvolved. With a counter beside it, ShapeCounter is used.
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

// Config describes a device's sources. The zero value is a ring of samples scaled to a counter.
type Config struct {
	Shape     Shape
	NoCounter bool          // the device counts no energy: the samples' own integral is the truth
	Average   time.Duration // ShapeAverage: length of the moving average; 0 is 1 s
	Duty      float64       // part of each period that the sensor looks at, where it sleeps for the rest (an A100: 0.25); 0 is all
	Lag       time.Duration // how far the shape trails the load; 0 takes a usual value, and learns it for ShapeCounter
	Frozen    bool          // learn nothing: baseline and coefficients stay as given
	Baseline  Baseline      // what is known of the idle draw; zero: nothing
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

// slack is how long after its stamp an event may still be handed over: goroutines that report events
// are not perfectly ordered.
const slack = 50 * int64(time.Millisecond)

// Ledger is the ledger of one device. It is not safe for concurrent use; one goroutine owns it.
type Ledger struct {
	cfg   Config
	queue queue
	front front
	src   source
	back  back

	reqs   []*[chunkLen]request // see req
	places int32                // how many of them were ever used
	free   []int32              // of those, the ones that are not now
	byKey  map[uint64]int32
	groups []*group
	busy   []*group // those that have had a request, in order: the others have nothing to divide

	now     int64 // latest stamp of any event, or told by Advance
	results []Result
	taken   int // results already handed out
}

// New returns an empty ledger. Its account opens with the first counter reading (or power sample where
// there is no counter).
func New(cfg Config) *Ledger {
	cfg = cfg.withDefaults()
	l := &Ledger{cfg: cfg, byKey: map[uint64]int32{}}
	l.src = newSource(cfg)
	l.back = newBack(cfg)
	return l
}

// AddUpstream registers a server that runs on this device and returns its index for Arrive events.
// unified says that its slots are thought to share one KV cache (--kv-unified), so that all decoders share
// one read of the weights; which is true is learnt where slots are known.
// The zero Coefficients stand for nothing known. Beyond MaxUpstreams it returns the last one's index.
func (l *Ledger) AddUpstream(c Coefficients, unified bool) int {
	if len(l.groups) == MaxUpstreams {
		return MaxUpstreams - 1
	}
	l.groups = append(l.groups, newGroup(len(l.groups), c, unified))
	l.back.peakMW = max(l.back.peakMW, c.PeakMW)
	l.back.decodeAv = max(l.back.decodeAv, c.DecodeMW)
	return len(l.groups) - 1
}

// Recall gives an upstream the coefficients that were learnt of the model that it serves from now on.
func (l *Ledger) Recall(upstream int, c Coefficients) {
	g := l.groups[upstream]
	known := newGroup(upstream, c, g.sharing != splitCaches)
	if g.n == 0 { // who decodes is sharing by the old way
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
	c.PeakMW, c.DecodeMW = l.back.peakMW, l.back.decodeAv
	return c
}

// Config returns the ledger's configuration, defaults filled in.
func (l *Ledger) Config() Config { return l.cfg }

// Baseline returns what has been learnt of the idle draw.
func (l *Ledger) Baseline() Baseline { return l.back.idle.Baseline }

// Power adds a power sample: mw milliwatts, read from the source at ns. Samples of one source come in
// order of time, in batches of any size.
func (l *Ledger) Power(at, mw int64) {
	if l.src.power(at, mw) {
		l.settle()
	}
}

// Counter adds a reading of the energy counter: uj microjoules, read between the stamps before and
// after. Read it as often as is cheap: the nearer two readings, the better its tick is placed.
func (l *Ledger) Counter(before, after, uj int64) { l.Tick(before, after, 0, 0, uj) }

// Tick adds a reading of the energy counter whose last step is known to lie after lo and not after hi: a
// counter that steps every 100 ms tells what it was up to 100 ms ago. 0, 0: the readings alone place it.
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
	l.tell(e.At)
	switch {
	case e.Kind == Arrive:
		l.arrive(e)
	case e.Kind < Arrive:
		l.push(e, -1)
	default:
		i, ok := l.byKey[e.Request]
		if !ok || l.req(i).ended != (e.Kind == SlotIdle) {
			l.back.stats.UnknownEvents++
			return
		}
		l.observe(e, i)
	}
	l.settle()
}

// Advance says that the clock shows now: every event up to now, less a small slack, has been given.
// Without it a quiet ledger settles nothing.
func (l *Ledger) Advance(now int64) {
	l.tell(now)
	l.settle()
}

func (l *Ledger) tell(now int64) {
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

// Close settles all that can be settled, as of now. Requests still in flight become partial; what the
// counter shows beyond the last sample is residual. The ledger must not be fed afterwards.
func (l *Ledger) Close(now int64) {
	l.tell(now + slack)
	l.src.close()
	l.front.limit = l.now
	l.front.closing = true
	l.settle()
	l.back.close(l)
}

// settle moves everything as far as the data allow: windows are cut, filled piece by piece, and settled
// as soon as they are full. Each piece's windows are settled before the next piece is looked at, so
// what was learnt at any point depends on the data alone.
func (l *Ledger) settle() {
	if o := l.src.opening; o > 0 {
		l.src.opening = 0
		l.src.handed += o
		l.back.residual(o)
	}
	for {
		l.advanceFront()
		p, ok := l.src.next(l)
		if !ok {
			return
		}
		l.pour(p)
		l.settleFull()
	}
}
