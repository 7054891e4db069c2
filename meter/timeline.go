package meter

// timeline keeps when generated output came. Stamps are the relay's monotonic nanoseconds.
type timeline struct {
	first     int64 // T1: read stamp of the first output
	firstOut  int64 // W1: its flush
	answer    int64 // O1: read stamp of the first output that is not reasoning
	last      int64 // Tn
	lastOut   int64 // Wn
	events    int64 // outputs, each completion's for itself
	reads     int64 // reads that brought at least one
	inRead    int64 // outputs in the read of last
	maxInRead int64
	untracked int64 // outputs of completions beyond trackedChoices

	gaps    *Sketch // made at the first gap, then kept
	keep    int     // limit of stamps
	stamps  []Stamp
	choices []span // by completion, up to the last one with output; at most trackedChoices
}

// trackedChoices bounds the completions of one exchange with measured gaps. Outputs of
// further ones count too, also in Details.UntrackedOutputs, but have no gaps.
const trackedChoices = 64

// span is one completion's first and last output.
type span struct{ first, last int64 }

// Stamp is one read that brought output: how many outputs, and when. Several outputs with one stamp
// came in one read; several tokens in one output count as one output.
type Stamp struct {
	AtNs    int64 // since P0
	Outputs int
}

// keptStamps is the largest buffer of stamps that a Meter keeps between exchanges.
const keptStamps = 4096

func (t *timeline) reset() {
	gaps, stamps := t.gaps, t.stamps[:0]
	if cap(stamps) > keptStamps {
		stamps = nil
	}
	if gaps != nil {
		gaps.Reset()
	}
	clear(t.choices)
	*t = timeline{gaps: gaps, stamps: stamps, choices: t.choices[:0]}
}

// restart forgets what came so far.
func (t *timeline) restart() {
	keep := t.keep
	t.reset()
	t.keep = keep
}

// output records one output of a completion, read at read and flushed to the client at written.
func (t *timeline) output(choice int64, answer bool, read, written int64) {
	t.events++
	if t.first == 0 {
		t.first, t.firstOut = read, written
	}
	if answer && t.answer == 0 {
		t.answer = read
	}
	t.countRead(read)
	t.last, t.lastOut = read, written
	if choice < 0 || choice >= trackedChoices {
		t.untracked++
		return
	}
	for int(choice) >= len(t.choices) {
		t.choices = append(t.choices, span{})
	}
	c := &t.choices[choice]
	if c.first == 0 {
		c.first, c.last = read, read
		return
	}
	if t.gaps == nil {
		t.gaps = NewSketch()
	}
	t.gaps.Add(read - c.last)
	c.last = read
}

// countRead counts the reads that brought output, and the outputs in each.
func (t *timeline) countRead(read int64) {
	if t.reads == 0 || read != t.last {
		t.reads++
		t.inRead = 0
		if len(t.stamps) < t.keep {
			t.stamps = append(t.stamps, Stamp{AtNs: read})
		}
	}
	t.inRead++
	t.maxInRead = max(t.maxInRead, t.inRead)
	if n := len(t.stamps); n > 0 && t.stamps[n-1].AtNs == read {
		t.stamps[n-1].Outputs++
	}
}

const stallNs = 50e6

// stalls counts the gaps longer than 5 times the median and than 50 ms.
func (t *timeline) stalls(median int64) int64 {
	return t.gaps.Above(max(5*median, stallNs))
}

// started counts the completions that gave output.
func (t *timeline) started() (n int64) {
	for i := range t.choices {
		if t.choices[i].first != 0 {
			n++
		}
	}
	return n
}
