package energy

// phase is where a request stands.
type phase uint8

const (
	waiting phase = iota
	prefilling
	decoding
	done
)

// req is the request in a place. Requests lie in chunks, which stay where they are when there are more.
func (l *Ledger) req(i int32) *request { return &l.reqs[i/chunkLen][i%chunkLen] }

// request is the ledger's state of one request. Fields under "front" belong to the pass that cuts
// windows and those under "back" to the pass that settles them.
type request struct {
	key   uint64
	group *group
	hint  int64 // PromptHint
	late  bool  // phases become known with End
	ended bool  // End has been handed over; later events are ignored
	used  bool  // not on the free list

	// front
	fphase    phase
	fstart    int64 // slot start
	ffirst    int64 // first token
	flone     bool  // no other prefill ran beside its own
	guess     int64 // prompt tokens guessed from the hint when it arrived
	arrived   int64
	flast     int64 // last token
	prevShown int32 // list of decoders in order of their last token
	nextShown int32
	shown     bool
	lastStep  float64

	// back
	phase          phase
	start          int64 // slot start, 0 before
	first          int64 // first token, 0 before
	end            int64
	slot           int // -1 unknown
	prompt, cached int64
	known          bool // prompt and cached are the server's
	counts         Counts
	tokens         int64 // tokens counted by the token rule so far

	mark    marks   // the accumulators when it joined each share
	dec     decMark // the decoders' running sums when it last joined or changed
	decodeF float64 // decode share up to dec
	ctx     float64 // context minus the group's steps
	reads   float64 // its weight in a step's reads: 1 - neighbours/2
	placed  bool    // its slot is in the group's table
	left    bool    // it has ended; its cells, ctx of them, may still cost others something

	idleUJ, prefillUJ, decodeUJ int64
	timeUJ, tokenUJ             int64
	aloneUJ                     int64           // decode energy of windows in which nobody else worked
	contested                   float64         // uJ of prefill that others could have caused
	in                          [maxPools]place // its places in pools not yet divided
	pools                       int             // how many
	edge2, model2               float64         // variances in uJ^2: of edges, of coefficients
	sample2                     float64
	paid                        float64 // part of its prompt worked off in pools divided so far
	holdNS, meanMW              int64
	ghost                       bool // its client left, its prefill goes on
	tail                        bool // may still be charged with the tail
	contended                   bool
	unmetered                   bool
	estimated                   bool
	partial                     bool
	shared                      bool
}
