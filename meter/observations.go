package meter

// Observations holds facts of an exchange that its row does not hold: each source's counts as they were told,
// and stamps. Fill sets them.
type Observations struct {
	RequestSkipped string // why the request's body was not read

	Usage    Counts
	Timings  Counts
	Native   Counts
	Progress PrefillProgress

	Events        int64 // events with data, or documents
	Unfinished    bool  // the stream ended within an event
	Finished      bool  // the stream's own end mark came: [DONE], message_stop, response.completed, native "stop":true of the last completion
	Started       int64 // completions that gave output
	Stamps        []Stamp
	SlotStartNs   Int // S − P0
	FirstNs       Int // T1 − P0
	LastNs        Int // Tn − P0
	LastWrittenNs Int // Wn − P0
}

// PrefillProgress is the last prefill progress in the reply.
type PrefillProgress struct {
	Done, Total, Cached Int
	Events              int64
}
