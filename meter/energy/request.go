package energy

import "wattline/meter"

// req returns the request with index i. Requests lie in chunks that never move.
func (l *Ledger) req(i int32) *request { return &l.reqs[i/chunkLen][i%chunkLen] }

// request is the ledger's state of one request. The segmenter runs ahead of the allocator, so each has fields
// of its own.
type request struct {
	key   uint64
	group *decodeGroup
	hint  int64 // PromptHint
	late  bool  // phases become known with End
	ended bool  // End has been received; later events are ignored
	used  bool  // not on the free list

	// Owned by the segmenter.
	segPhase      meter.Phase
	segStart      int64 // slot start
	segFirst      int64 // first token
	segAlone      bool  // no other prefill ran at the same time
	guess         int64 // prompt tokens guessed from the hint when it arrived
	arrived       int64
	segLastToken  int64 // last token
	prevStreaming int32 // neighbours in the list of streaming requests (steps.go)
	nextStreaming int32
	streaming     bool
	lastStep      float64 // steps of its group at its last token
	follow        *followState
	followable    bool  // looks will come
	begun         int64 // its slot start's stamp, once that was told
	showed        bool  // its first token was told
	hushed        bool  // it is silent while its neighbours show tokens
	assumed       bool  // its phases are presumed
	unseen        bool  // it worked between two looks

	// Owned by the allocator.
	phase          meter.Phase
	start          int64 // slot start, 0 before
	first          int64 // first token, 0 before
	end            int64
	slot           int // -1 unknown
	prompt, cached int64
	known          bool // prompt and cached are the server's
	counts         Counts
	tokens         int64 // tokens counted by the token rule so far

	snapshot       runningSums // sums when it arrived, or got its slot
	decodeSnapshot decodeSums  // its group's sums when decodeShare was last brought up to date
	decodeShare    float64     // uJ of its group's account
	contextOffset  float64     // its context minus its group's steps; after its end, its cells
	readWeight     float64     // its part of a read of the weights: 1 - adjacent decoders/2
	hasSlot        bool        // its slot is in the group's table
	ownsLeftover   bool        // it has ended, and others still read its cells

	idleUJ, prefillUJ, decodeUJ int64
	waitingUJ                   int64 // the part of idleUJ from before it had a slot
	timeUJ, tokenUJ             int64
	aloneUJ                     int64                       // decode energy of windows in which no other request worked
	contested                   float64                     // uJ of prefill that others could have caused
	poolRefs                    [maxPoolsPerRequest]poolRef // in pools not divided yet
	poolCount                   int                         // of poolRefs
	edgeVar, modelVar           float64                     // uJ^2: of prefills' edges, of the model
	sampleVar                   float64                     // uJ^2: of the request's own edges, if it was alone
	donePart                    float64                     // part of its prompt processed in pools divided so far
	slotNS, meanMW              int64
	orphaned                    bool // its client has left, and the server goes on
	doubt                       bool // whether it decodes is not known
	doubtSnapshot               doubtSums
	doubtUJ                     float64 // uJ that hang on whether it, or a neighbour, decoded
	unseenUJ, shapelessUJ       float64 // uJ of the whole device while its energy, or its course, was not known
	takenUJ                     float64 // uJ that it was charged because nobody else explains them
	tookAt                      int64   // end of the last window of which it took some
	mayOwnTail                  bool    // may still be charged with the tail
	contended                   bool
	unmetered                   bool
	estimated                   bool
	partial                     bool
	shared                      bool
}
