package cache

import (
	"fmt"

	"wattline/meter"
	"wattline/meter/prompt"
)

// serverCause names why a server reused less of p, with which q begins, than matched. Each cause is a fact that was seen; the
// most certain comes first.
func (h *History) serverCause(q, p *Request, d *prompt.Difference) (cause, why, takenBy string) {
	switch {
	case q.CachePrompt == meter.Some(0):
		return CachePromptFalse, "the request has cache_prompt: false", ""
	case !p.Earlier && q.Generation != p.Generation:
		return Restarted, "the server went away and came back since the earlier prompt", ""
	case q.LoadUs.V > 0:
		return Restarted, fmt.Sprintf("the model was loaded for this request, for %.1f s", float64(q.LoadUs.V)/1e6), ""
	case q.CachedTokens.V == 0 && q.ConfigID != "" && p.ConfigID != "" && q.ConfigID != p.ConfigID:
		return Restarted, "config_id changed since the earlier prompt, and nothing at all was reused", ""
	case !p.Prompt.Several && p.Facts.ContextTokens.Valid && p.OutputTokens.Valid && p.PromptTokens.V+p.OutputTokens.V >= p.Facts.ContextTokens.V-1:
		return ContextShifted, fmt.Sprintf("the earlier request filled its slot's context of %d tokens", p.Facts.ContextTokens.V), ""
	}
	if p.Earlier {
		return Undetermined, "wattline was not running all the time between the two prompts", ""
	}
	one := q.Facts.Slots == meter.Some(1)
	if !one && q.Slot.Valid && p.Slot.Valid && q.Slot != p.Slot && h.taker(p, q, p.Slot) == nil {
		return SlotChosen, fmt.Sprintf("slot %d had the earlier prompt, and slot %d was used", p.Slot.V, q.Slot.V), ""
	}
	if one || p.Slot.Valid {
		of := p.Slot
		if one {
			of = meter.Int{}
		}
		if x := h.taker(p, q, of); x != nil {
			if why := unsure(x, of); why != "" {
				return Undetermined, why, ""
			}
			return h.taken(q, x, one)
		}
		if one || q.Slot == p.Slot {
			return notCutBack(p, d)
		}
	}
	return Undetermined, "which slots served the two prompts is not known (--slots on tells)", ""
}

// notCutBack: the slot is the same, nothing came between, and the prompt still was not reused.
func notCutBack(p *Request, d *prompt.Difference) (cause, why, takenBy string) {
	return NotCutBack, fmt.Sprintf("the same slot had the earlier prompt of %d tokens and nothing came between; the new one leaves it behind %d bytes", p.PromptTokens.V, d.Common), ""
}

// taken says that a request took the slot, and what became of the prompt.
func (h *History) taken(q, x *Request, one bool) (cause, why, takenBy string) {
	slot := "the server's only slot"
	if !one {
		slot = fmt.Sprintf("slot %d", x.Slot.V)
	}
	switch ram := q.Facts.CacheRAM; {
	case ram == meter.Some(0):
		return PromptCacheOff, slot + " was taken by another prompt, and --cache-ram 0 keeps none", x.ID
	case ram.Valid && ram.V > 0: // below 0 there is no limit
		return PromptCacheFull, fmt.Sprintf("%s was taken by another prompt, and --cache-ram %d had no room for this one", slot, ram.V), x.ID
	}
	return SlotTaken, slot + " was taken by another prompt", x.ID
}

// taker returns the last request that used a slot (null: any) between p and q and whose prompt goes another way than p's. Where
// there is none it returns one that may be so (unsure says why).
func (h *History) taker(p, q *Request, slot meter.Int) (maybe *Request) {
	for _, list := range h.servers {
		for i := len(list) - 1; i >= 0; i-- {
			x := list[i]
			if x.ID == p.ID || x.ID == q.ID || upstream(x) != upstream(q) || x.Started < p.Ended || x.Started > q.Started || slot.Valid && x.Slot.Valid && x.Slot != slot {
				continue
			}
			if x.Prompt != nil && prompt.Common(&x.Prompt.Fingerprint, &p.Prompt.Fingerprint) >= p.Prompt.Bytes {
				continue
			}
			if unsure(x, slot) == "" {
				return x
			}
			maybe = x
		}
	}
	return maybe
}

// unsure says why it is not known whether x took a slot (null: any), "" if it did.
func unsure(x *Request, slot meter.Int) string {
	switch {
	case x.Prompt == nil:
		return fmt.Sprintf("request %s came between, and what the server computed for it is not known: it was cancelled, failed, or its body was not read", x.ID)
	case slot.Valid && !x.Slot.Valid:
		return fmt.Sprintf("request %s came between, and its slot is not known", x.ID)
	}
	return ""
}

// upstream is the server's address, without the model.
func upstream(q *Request) string {
	for i := range q.Server {
		if q.Server[i] == '\n' {
			return q.Server[:i]
		}
	}
	return q.Server
}

// SlotSeen is one slot as it was read behind a request that the server did not reuse for.
type SlotSeen struct {
	ID     int
	Task   meter.Int // the number of its last task
	Tokens meter.Int // that it holds: its last prompt and what was generated
}

// Refine completes an undetermined verdict with the server's slots, read a moment after the request ended.
func (h *History) Refine(v *Verdict, q *Request, slots []SlotSeen) {
	p := h.find(q.Server, v.Predecessor)
	if p == nil || p.Earlier || v.Cause != Undetermined {
		return
	}
	highest := int64(-1)
	for _, s := range slots {
		if s.Task.Valid {
			highest = max(highest, s.Task.V)
		}
	}
	if n := h.served(q); highest >= 0 && highest < n {
		v.Cause, v.Why = Restarted, fmt.Sprintf("the server counts %d tasks, and wattline saw more requests served: it began anew", highest+1)
		return
	}
	mine, theirs := slotOf(slots, q), slotOf(slots, p)
	switch {
	case len(slots) == 1:
		facts := q.Facts
		facts.Slots = meter.Some(1)
		again := *q
		again.Facts = facts
		v.Cause, v.Why, v.TakenBy = h.serverCause(&again, p, &prompt.Difference{Common: v.MatchedBytes.V})
	case theirs.Valid && mine.Valid && theirs != mine:
		v.Cause, v.Why = SlotChosen, fmt.Sprintf("slot %d still has the earlier prompt, and slot %d was used", theirs.V, mine.V)
	case mine.Valid && !theirs.Valid:
		if x := h.taker(p, q, meter.Int{}); x != nil {
			if why := unsure(x, meter.Int{}); why != "" {
				v.Why = why
			} else if at := slotOf(slots, x); at.Valid && at != mine {
				y := *x
				y.Slot = at
				v.Cause, v.Why, v.TakenBy = h.taken(q, &y, false)
			}
		} else {
			v.Cause, v.Why, v.TakenBy = notCutBack(p, &prompt.Difference{Common: v.MatchedBytes.V})
		}
	}
}

// slotOf returns the slot that holds as many tokens as the request left in it, if there is just one. The last generated token
// may not be in it yet.
func slotOf(slots []SlotSeen, q *Request) (at meter.Int) {
	left := q.PromptTokens.V + q.OutputTokens.V
	for _, s := range slots {
		if s.Tokens.Valid && (s.Tokens.V == left || s.Tokens.V == left-1) {
			if at.Valid {
				return meter.Int{}
			}
			at = meter.Some(int64(s.ID))
		}
	}
	return at
}

func (h *History) find(server, id string) *Request {
	for _, q := range h.servers[server] {
		if q.ID == id {
			return q
		}
	}
	return nil
}

// served counts the requests of the server's present life that are known to have been computed before q.
func (h *History) served(q *Request) (n int64) {
	for _, x := range h.servers[q.Server] {
		if !x.Earlier && x.Generation == q.Generation && x.PromptTokens.Valid && x.Ended <= q.Started {
			n++
		}
	}
	return n
}
