package cache

import (
	"wattline/meter"
	"wattline/meter/prompt"
)

// The verdicts.
const (
	Hit     = "hit"     // what could be reused was
	Cold    = "cold"    // there was nothing to reuse
	Client  = "client"  // the prompt itself changed
	Server  = "server"  // it matched for longer than the server reused
	Unknown = "unknown" // Verdict.Why says why
)

// The causes of a server's loss. Those of a client's are package prompt's.
const (
	CachePromptFalse = "cache_prompt_false"   // the request asked for it
	Restarted        = "restarted"            // the server, or its model, was loaded anew
	SlotTaken        = "slot_taken"           // by another request
	PromptCacheOff   = "prompt_cache_off"     // a slot was taken, and the server keeps no prompts in RAM (--cache-ram 0)
	PromptCacheFull  = "prompt_cache_evicted" // a slot was taken, and the server no longer had the prompt in RAM
	SlotChosen       = "slot_chosen"          // another slot still had the prompt
	ContextShifted   = "context_shifted"      // the context was full, so that its beginning was cut
	NotCutBack       = "cannot_cut_back"      // the slot had the prompt and more, and could not go back to it
	Undetermined     = "undetermined"         // the server reused less than matched, and nothing tells why
)

// Causes lists every cause of both parties.
func Causes() []string {
	return []string{
		prompt.VolatileLine, prompt.SettingsChanged, prompt.ToolsChanged, prompt.ToolsReordered, prompt.SystemChanged, prompt.HistoryEdited,
		prompt.HistoryCompacted, prompt.ReasoningDropped, prompt.MessageInserted, prompt.MessageMoved, prompt.ImageReencoded, prompt.Reserialised,
		CachePromptFalse, Restarted, SlotTaken, PromptCacheOff, PromptCacheFull, SlotChosen, ContextShifted, NotCutBack, Undetermined,
	}
}

// Verdict is what is known of one prompt's reuse.
type Verdict struct {
	Verdict string
	Cause   string // of a loss; "" otherwise
	Part    string // where the prompt stopped matching, of a client's loss
	Why     string // the evidence, or why nothing is known

	Expected meter.Int // tokens that could have been reused
	Sigma    float64   // its standard error
	Lost     meter.Int // of them, those that were not; 0 for a hit

	Predecessor   string    // id of the request that was compared with
	MatchedBytes  meter.Int // with which both prompts begin
	MatchedTokens meter.Int
	Offset        meter.Int // in the part, bytes
	TakenBy       string    // id of the request that took the slot

	Change prompt.Change // the client's; its lines are people's texts
	// Ask: the server's slots, read now, may tell the cause.
	Ask bool
}
