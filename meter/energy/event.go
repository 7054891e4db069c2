package energy

import "time"

// Kind says what an Event reports.
type Kind uint8

// The kinds of events, in the order in which events of one stamp are applied.
const (
	// Temperature: the device's temperature is MilliC.
	Temperature Kind = iota
	// Contended: from now on another process computes on the device (On), or none does.
	Contended
	// Lost: the device or its sensors were lost; requests in flight become partial.
	Lost
	// Arrive: the request was sent to its upstream.
	Arrive
	// SlotStart: the server gave the request a slot; its prefill begins.
	SlotStart
	// SlotSeen: the request was seen to hold slot Slot.
	SlotSeen
	// Progress: Tokens of Total prompt tokens have been processed.
	Progress
	// Decode: Tokens generated tokens showed.
	Decode
	// FirstToken: the first generated token showed; prefill is over.
	FirstToken
	// Waiting: a look at the server showed that the request has no slot yet. Only requests whose phases are not told
	// need looks.
	Waiting
	// Working: a look showed it in slot Slot (-1: unknown) with Tokens generated tokens.
	Working
	// SlotIdle: a look showed that the server no longer works for it, and will not.
	SlotIdle
	// End: the reply ended, or the client left (Cancelled).
	End
	// assumeDecoding: the request's phase is still unknown after SettleMax.
	assumeDecoding
	// orphanEnd: the server has finished with a request whose client had left.
	orphanEnd
	// doubtful: whether the request decodes is not known (on).
	doubtful
)

// Event is a fact about a request, or about the device (Temperature, Contended, Lost). Stamps are nanoseconds of the
// same clock as the samples'.
type Event struct {
	Kind    Kind
	Request uint64 // the caller's key; not 0
	At      int64

	Upstream   int   // Arrive: index of the server, from Ledger.AddUpstream; one of MaxUpstreams or more is taken as the last
	PromptHint int64 // Arrive: size of the prompt in any fixed unit (body bytes), to guess its tokens before they are known; 0 unknown
	Late       bool  // Arrive: the phases become known only with End (an unstreamed reply)
	Followed   bool  // Arrive: looks will tell phases that nothing else tells
	Slots      int   // Arrive: how many slots the server has; 0 unknown

	Slot      int   // SlotStart, SlotSeen, Working
	SlotKnown bool  // SlotStart: Slot holds the slot
	Tokens    int64 // Decode: tokens that showed; Progress: prompt tokens done; Working: tokens generated so far
	Total     int64 // Progress: prompt tokens to process
	MilliC    int64 // Temperature
	On        bool  // Contended

	Counts Counts // End
}

// Counts holds what is known about a request when it ends.
type Counts struct {
	Known        bool  // the server's own token counts are present
	PromptTokens int64 // tokens of the prompt, cached ones included
	CachedTokens int64 // of them reused from the cache
	OutputTokens int64 // generated tokens
	MaxTokens    int64 // the most that it asked for; 0 unknown
	Cancelled    bool  // the client left
	Refused      bool  // the server rejected it and never computed
	Several      bool  // it asked for several completions; the server decodes each in a slot of its own

	// Prefill and Decode are the server's own durations. Only requests with Late phases need them.
	Prefill, Decode time.Duration
}

// changesPhase reports whether the event cuts a window.
func (k Kind) changesPhase() bool {
	switch k {
	case Temperature, Progress, Decode:
		return false
	}
	return true
}
