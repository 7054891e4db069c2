package meter

import "encoding/json"

// Facts is what an exchange showed beside its row: what the request asked for, and every source's
// numbers for themselves, so that a disagreement stays visible. It is filled by Fill.
type Facts struct {
	// What the request asked for. Null where the body did not say, or was not read.
	RequestedModel  string
	Temperature     Float
	Seed            Int
	Completions     Int // n
	Prompts         Int // prompts in one request: elements of an array prompt
	Inputs          Int // texts to embed or tokenise, questions to decide, or items of a Responses input
	Documents       Int // to rerank
	Images, Audios  int64
	IncludeUsage    Int // stream_options.include_usage, 0 or 1
	TimingsPerToken Int
	ReturnProgress  Int
	CachePrompt     Int
	AskedSlot       Int    // id_slot
	RequestOff      string // why the request's body was not read

	// What the reply said.
	ServedModel string
	Fingerprint string // system_fingerprint: llama-server's build
	SlotID      Int    // which of the server's slots served it, where the reply tells
	Usage       Counts
	Timings     Counts
	Native      Counts
	Disagree    bool // two of them tell different token counts
	Covered     Int  // completions that the counts cover, where fewer than the exchange had: no sum exists
	AtLeast     Int  // output tokens that a stream told before it was cut
	Results     Int  // embeddings, documents ranked, or questions answered
	Tokens      Int  // tokens that /tokenize returned
	Counted     Int  // prompt tokens that a counting route returned
	Progress    Progression

	// What we saw.
	Events         int64 // events with data, or documents
	BadEvents      int64 // of them, those that were not whole JSON: not counted into anything
	Unfinished     bool  // the stream ended within an event
	Clean          bool  // the upstream ended the reply by its own framing
	Finished       bool  // the stream's own end mark came: [DONE], message_stop, response.completed, native "stop":true of the last completion
	Pings          int64 // SSE comments
	OutputReads    int64 // reads that brought output
	MaxOutputsRead int64 // most outputs that one read brought
	Started        int64 // completions that gave output
	Stamps         []Stamp
	SlotStartNs    Int    // S − P0
	FirstNs        Int    // T1 − P0
	LastNs         Int    // Tn − P0
	LastWrittenNs  Int    // Wn − P0
	QueueSource    string // where S came from: SourceHead, SourceServer, "" if queue is null
	PrefillSource  string // SourceServer, SourceProgress, SourceMarks, "" if prefill is null
	DecodeSource   string // SourceServer, SourceMarks, "" if decode is null
	NegativeQueue  bool   // S lay before P1: queue is null
}

// Where a phase came from.
const (
	SourceHead     = "head"     // the reply's head marks the slot's start
	SourceServer   = "server"   // the server's prompt_ms and predicted_ms
	SourceProgress = "progress" // the server's prefill progress
	SourceMarks    = "marks"    // our stamps
)

// Progression is the last prefill progress that the server told.
type Progression struct {
	Done, Total, Cached Int
	Events              int64
}

// Float is a number that may be absent. The zero value is null.
type Float struct {
	V     float64
	Valid bool
}

// MarshalJSON writes the number, or null when it is absent.
func (f Float) MarshalJSON() ([]byte, error) {
	if !f.Valid {
		return []byte("null"), nil
	}
	return json.Marshal(f.V)
}
