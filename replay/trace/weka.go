package trace

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"wattline/meter"
)

// wekaConversation is one conversation of an agent, its sub-agents included.
type wekaConversation struct {
	ID        string        `json:"id"`
	BlockSize int           `json:"block_size"`
	Scope     string        `json:"hash_id_scope"` // "global": ids mean the same in all conversations of the file
	Requests  []wekaRequest `json:"requests"`
}

// wekaRequest is a request (type n or s) or a sub-agent with requests of its own. Times are seconds after the conversation's
// beginning; those of a sub-agent's requests too, or after the sub-agent's, see relativeAgents.
type wekaRequest struct {
	T         *float64      `json:"t"`
	Type      string        `json:"type"`
	Input     int           `json:"in"`
	Output    int           `json:"out"`
	HashIDs   []uint64      `json:"hash_ids"`
	APITime   *float64      `json:"api_time"`
	ThinkTime *float64      `json:"think_time"`
	TTFT      *float64      `json:"ttft"`
	Requests  []wekaRequest `json:"requests"`
}

// wekaBlock is an id in its conversation's scope.
type wekaBlock struct {
	scope int
	id    uint64
}

// wekaTurn is a request with its place.
type wekaTurn struct {
	*wekaRequest
	at      time.Duration
	session string
	scope   int
	number  int // of the request in the file
}

// readWeka reads conversations one after the other: one a file, or one a line. All begin at 0.
func (t *Trace) readWeka(lines *lineReader) error {
	d := json.NewDecoder(lines.rest())
	var all []wekaConversation
	for n := 1; ; n++ {
		var c wekaConversation
		if err := d.Decode(&c); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return wekaError(n, err)
		}
		switch {
		case len(c.Requests) == 0:
			return fmt.Errorf("its conversation %d has no requests", n)
		case c.BlockSize <= 0 || c.BlockSize > maxTokens || t.BlockTokens != 0 && c.BlockSize != t.BlockTokens:
			return fmt.Errorf("its conversation %d has blocks of %d tokens: all of a file need one block_size above 0", n, c.BlockSize)
		}
		t.BlockTokens = c.BlockSize
		all = append(all, c)
	}
	relative := relativeAgents(all)
	if relative {
		t.Notes = append(t.Notes, "the times of sub-agents' requests count from the sub-agent's beginning")
	}
	var turns []wekaTurn
	for i, c := range all {
		n := i + 1
		scope := n
		if c.Scope == "global" {
			scope = 0
		}
		var err error
		if turns, err = wekaTurns(turns, c.Requests, strconv.Itoa(n), scope, 0, relative); err != nil {
			return fmt.Errorf("its conversation %d: %w", n, err)
		}
		if err := t.room(len(turns) - 1); err != nil {
			return err
		}
	}
	// Each session is in order; sessions run beside each other.
	slices.SortStableFunc(turns, func(a, b wekaTurn) int { return int(a.at - b.at) })
	t.Clock = Clock{Unit: "s", First: "0"}
	ids, sessions := numbering[wekaBlock]{}, sessionList{}
	for _, turn := range turns {
		if err := t.addWeka(turn, ids, sessions); err != nil {
			return err
		}
	}
	return nil
}

func wekaError(n int, err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("its conversation %d is cut off: fetch the file again", n)
	}
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("its conversation %d is no JSON (%s)", n, e)
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("its conversation %d has a %s as %s, and a number is expected: the file is no Weka trace, or damaged", n, e.Value, e.Field)
	}
	return readError(err)
}

// relativeAgents reports whether the times of sub-agents' requests count from the sub-agent's beginning: then most of the
// first ones are smaller than that beginning itself.
func relativeAgents(all []wekaConversation) bool {
	smaller, others := 0, 0
	var count func([]wekaRequest)
	count = func(list []wekaRequest) {
		for i := range list {
			q := &list[i]
			if q.Type == "subagent" && len(q.Requests) > 0 && q.T != nil && q.Requests[0].T != nil && *q.T > rounding.Seconds() {
				if *q.Requests[0].T+rounding.Seconds() < *q.T {
					smaller++
				} else {
					others++
				}
			}
			count(q.Requests)
		}
	}
	for i := range all {
		count(all[i].Requests)
	}
	return smaller > others
}

// wekaTurns lists the requests of one session, which begins at a time, and behind them those of its sub-agents.
func wekaTurns(turns []wekaTurn, list []wekaRequest, session string, scope int, begin time.Duration, relative bool) ([]wekaTurn, error) {
	start := time.Duration(0) // from which t counts
	if relative {
		start = begin
	}
	before := begin
	for i := range list {
		q := &list[i]
		if q.T == nil || *q.T < 0 || *q.T > twoClocks.Seconds() {
			return nil, fmt.Errorf("request %d of session %s has no time t in seconds after the beginning", i+1, session)
		}
		at := max(begin, start+time.Duration(*q.T*float64(time.Second)))
		if at < before {
			return nil, fmt.Errorf("request %d of session %s is earlier than the one before it: sort them by t", i+1, session)
		}
		before = at
		if q.Type == "subagent" {
			var err error
			if turns, err = wekaTurns(turns, q.Requests, fmt.Sprintf("%s.%d", session, i+1), scope, at, relative); err != nil {
				return nil, err
			}
			continue
		}
		for name, v := range map[string]*float64{"api_time": q.APITime, "think_time": q.ThinkTime, "ttft": q.TTFT} {
			if v == nil || *v < 0 { // not known
				continue
			}
			if _, err := period(name, *v, time.Second); err != nil {
				return nil, fmt.Errorf("request %d of session %s %w", i+1, session, err)
			}
		}
		turns = append(turns, wekaTurn{q, at, session, scope, len(turns) + 1})
	}
	return turns, nil
}

// addWeka appends a request's record.
func (t *Trace) addWeka(turn wekaTurn, ids numbering[wekaBlock], sessions sessionList) error {
	r := Record{Line: turn.number, Offset: turn.at, Input: turn.Input, Output: turn.Output, Parent: -1, Unstreamed: turn.Type == "n"}
	if ok, err := t.possible(&r); err != nil || !ok {
		return err
	}
	r.Blocks = make([]Block, 0, len(turn.HashIDs)+1)
	left := r.Input
	for _, id := range turn.HashIDs {
		if n := min(left, t.BlockTokens); n > 0 {
			r.Blocks = append(r.Blocks, Block{ids.number(wekaBlock{turn.scope, id}), uint32(n)}) //nolint:gosec // at most maxTokens
			left -= n
		}
	}
	if left > 0 { // ids of whole blocks only: what is behind them is nobody else's
		r.Blocks = append(r.Blocks, Block{ids.number(wekaBlock{-turn.number, 0}), uint32(left)}) //nolint:gosec // at most maxTokens
	}
	took := time.Duration(0)
	if turn.APITime != nil && *turn.APITime >= 0 {
		took = time.Duration(*turn.APITime * float64(time.Second))
		r.Observed = &Observed{DurationUs: meter.Some(took.Microseconds())}
		if turn.TTFT != nil && *turn.TTFT >= 0 {
			r.Observed.TTFTUs = meter.Some(int64(*turn.TTFT * 1e6))
		}
	}
	sessions.add(t, &r, turn.session, took)
	// t is rounded to seconds in some files, think_time is not. Behind a sub-agent it is another time.
	if turn.ThinkTime != nil && *turn.ThinkTime >= 0 && r.Parent >= 0 {
		think := meter.Some(int64(*turn.ThinkTime * 1e6))
		if difference := think.V - r.ThinkUs.V; !r.ThinkUs.Valid || max(difference, -difference) <= rounding.Microseconds() {
			r.ThinkUs = think
		}
	}
	t.Records = append(t.Records, r)
	return nil
}

// isWeka reports whether the file begins with a Weka conversation, on one line or on several.
func isWeka(first *lineReader) bool {
	if hasKey("requests")(first) {
		return true
	}
	more, _ := first.in.Peek(readSize / 2)
	begin := append(bytes.Clone(first.text), more...)
	return bytes.HasPrefix(begin, []byte("{")) && bytes.Contains(begin, []byte(`"requests"`)) && bytes.Contains(begin, []byte(`"block_size"`))
}
