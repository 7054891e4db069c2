package trace

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"wattline/meter"
)

// mooncakeLine is a line of a Mooncake trace. session_id and delay (milliseconds after the turn before) are AIPerf's, and
// chat_id and parent_chat_id are Bailian's, whose times are seconds.
type mooncakeLine struct {
	Timestamp  json.RawMessage `json:"timestamp"`
	Input      *float64        `json:"input_length"`
	Output     *float64        `json:"output_length"`
	HashIDs    []uint64        `json:"hash_ids"`
	SessionID  json.RawMessage `json:"session_id"`
	DelayMs    *float64        `json:"delay"`
	ChatID     *int64          `json:"chat_id"`
	ParentChat int64           `json:"parent_chat_id"`
}

// mooncakeTurn is a record with what it takes to find its earlier turn once the whole file is read.
type mooncakeTurn struct {
	Record
	session          string
	chat, parentChat int64
}

// mooncakeReader reads the lines one after the other.
type mooncakeReader struct {
	*Trace
	clock  *numericClock
	ids    numbering[uint64]
	turns  []mooncakeTurn
	latest map[string]time.Duration // of each session
	dated  time.Duration            // the last timestamp
	delays bool                     // some moments follow from delays

	unsorted error // the first timestamp that is earlier than the one before it
}

const (
	mooncakeBlock = 512 // tokens; other traces of the same form have others, see blockSize
	bailianBlock  = 16
)

// readMooncake reads a Mooncake trace: one object a line.
func (t *Trace) readMooncake(lines *lineReader) error {
	m := &mooncakeReader{Trace: t, ids: numbering[uint64]{}, latest: map[string]time.Duration{}}
	for ok := true; ok; ok = lines.next() {
		var l mooncakeLine
		if err := json.Unmarshal(lines.text, &l); err != nil {
			return lines.errorf("is no record: %s", jsonError(err))
		}
		if err := m.line(&l, lines); err != nil {
			return err
		}
	}
	if lines.err != nil {
		return lines.err
	}
	if m.unsorted != nil {
		return m.unsorted
	}
	m.settle()
	if m.delays {
		slices.SortStableFunc(m.turns, func(a, b mooncakeTurn) int { return cmp.Compare(a.Offset, b.Offset) })
	}
	if err := m.sizeBlocks(); err != nil {
		return err
	}
	m.join()
	return nil
}

// line adds a line.
func (m *mooncakeReader) line(l *mooncakeLine, lines *lineReader) error {
	for _, need := range []struct {
		key   string
		value *float64
	}{{"input_length", l.Input}, {"output_length", l.Output}} {
		if need.value == nil {
			return lines.errorf("has no %s", need.key)
		}
		if v := *need.value; v != math.Trunc(v) || math.Abs(v) > math.MaxInt32 {
			return lines.errorf("has an %s of %g, which is no number of tokens", need.key, v)
		}
	}
	if l.ChatID != nil {
		m.Format = "bailian"
	}
	turn := mooncakeTurn{Record: Record{Line: lines.n, Input: int(*l.Input), Output: int(*l.Output), Parent: -1}, session: textOf(l.SessionID), parentChat: l.ParentChat}
	if l.ChatID != nil {
		turn.chat = *l.ChatID
	}
	if err := m.time(&turn, l, lines); err != nil {
		return err
	}
	if ok, err := m.possible(&turn.Record); err != nil || !ok {
		return err
	}
	for _, id := range m.ids.of(l.HashIDs) {
		turn.Blocks = append(turn.Blocks, Block{ID: id}) // its tokens follow when the size is known
	}
	if err := m.room(len(m.turns)); err != nil {
		return err
	}
	m.turns = append(m.turns, turn)
	return nil
}

// time finds when a record came: at its timestamp, or after the earlier turn and the delay.
func (m *mooncakeReader) time(turn *mooncakeTurn, l *mooncakeLine, lines *lineReader) error {
	before, later := m.latest[turn.session]
	later = later && turn.session != ""
	delay := time.Duration(0)
	if l.DelayMs != nil {
		var err error
		if delay, err = period("delay", *l.DelayMs, time.Millisecond); err != nil {
			return lines.errorf("%s", err)
		}
		if later {
			turn.ThinkUs = meter.Some(delay.Microseconds())
		}
	}
	at := textOf(l.Timestamp)
	switch {
	case at == "" && later && l.DelayMs != nil:
		turn.Offset, m.delays = before+delay, true
	case at == "":
		return lines.errorf("has no timestamp, and no delay after an earlier line of its session_id")
	default:
		if m.clock == nil {
			relative := "ms"
			if l.ChatID != nil {
				relative = "s"
			}
			var err error
			if m.clock, err = newNumericClock(at, relative); err != nil {
				return lines.errorf("%s", err)
			}
		}
		var err error
		if turn.Offset, err = m.clock.offset(at); err != nil {
			return lines.errorf("%s", err)
		}
		if turn.Offset < m.dated && m.unsorted == nil {
			m.unsorted = lines.errorf("is %v earlier than the line before it: sort the file by time", m.dated-turn.Offset)
		}
		m.dated = turn.Offset
	}
	m.latest[turn.session] = turn.Offset
	return nil
}

// textOf is a JSON string or number as text; "" where there is none.
func textOf(raw json.RawMessage) string {
	if string(raw) == "null" {
		return ""
	}
	return strings.Trim(string(raw), `"`)
}

// settle decides a clock that can be read in two ways.
func (m *mooncakeReader) settle() {
	const busy = 60 // seconds between requests, at most, in a trace worth sending
	c := m.clock
	if n := len(m.turns); c.ambiguous && (n < 2 || m.dated.Milliseconds()/int64(n-1) <= busy) {
		c.Unit, c.Absolute = "s", true
		for i := range m.turns {
			m.turns[i].Offset *= 1000
		}
	}
	m.Clock = c.Clock
}

// sizeBlocks finds the size of the blocks that fits most prompts, and leaves the others out.
func (m *mooncakeReader) sizeBlocks() error {
	sizes := []int{mooncakeBlock, bailianBlock, 32, 64, 128, 256, 1024, 2048}
	if m.Format == "bailian" {
		sizes[0], sizes[1] = sizes[1], sizes[0]
	}
	fits := make([]int, len(sizes))
	have := 0
	for i := range m.turns {
		r := &m.turns[i]
		if len(r.Blocks) == 0 {
			continue
		}
		have++
		for k, size := range sizes {
			if len(r.Blocks) == (r.Input+size-1)/size {
				fits[k]++
			}
		}
	}
	if have == 0 {
		return nil
	}
	best := slices.Index(fits, slices.Max(fits))
	size := sizes[best]
	if 2*fits[best] < have {
		return fmt.Errorf("most of its hash_ids fit no size of blocks: blocks of %d tokens fit the input_length of %d of %d lines, and other sizes fit fewer", size, fits[best], have)
	}
	m.BlockTokens = size
	kept := m.turns[:0]
	for _, r := range m.turns {
		if len(r.Blocks) > 0 && len(r.Blocks) != (r.Input+size-1)/size {
			m.leaveOut(r.Line, fmt.Sprintf("whose hash_ids of %d tokens do not fit the prompt", size))
			continue
		}
		for k := range r.Blocks {
			r.Blocks[k].Tokens = uint32(min(size, r.Input-k*size)) //nolint:gosec // at most maxTokens
		}
		kept = append(kept, r)
	}
	m.turns = kept
	return nil
}

// join finds the session and the earlier turn of each record, and appends it to the trace.
func (m *mooncakeReader) join() {
	sessions, chats, named := sessionList{}, map[int64]int{}, 0
	for i := range m.turns {
		turn := &m.turns[i]
		r := &turn.Record
		switch p, ok := chats[turn.parentChat]; {
		case m.Format == "bailian" && ok && turn.parentChat != turn.chat:
			r.Parent, r.Session, r.Turn = p, m.Records[p].Session, m.Records[p].Turn+1
		case m.Format == "bailian":
			named++
			r.Session, r.Turn = named, 1
		case turn.session != "":
			sessions.add(m.Trace, r, turn.session, 0)
		}
		chats[turn.chat] = len(m.Records)
		m.Records = append(m.Records, *r)
	}
	if m.Format != "bailian" && len(sessions) == 0 {
		m.inferSessions()
	}
}

// numericClock reads times that are numbers.
type numericClock struct {
	Clock
	first     float64
	ambiguous bool  // seconds since 1970, or many milliseconds: read as the latter
	whole     int64 // of first, where it has no fraction: nanoseconds since 1970 are too large for a float
}

// Absolute times are those after 1990, in the unit in which they have such a size.
const since1990 = 631152000

// newNumericClock finds the unit of a clock whose first time is at; relative is the unit of a clock that does not count
// from 1970.
func newNumericClock(at, relative string) (*numericClock, error) {
	v, err := number(at)
	if err != nil {
		return nil, err
	}
	c := &numericClock{Clock: Clock{Unit: relative, First: at}, first: v}
	c.whole, _ = strconv.ParseInt(at, 10, 64)
	for i, unit := range []string{"s", "ms", "us", "ns"} {
		scale := math.Pow(1000, float64(i))
		if v >= since1990*scale && v < 10*since1990*scale {
			c.Unit, c.Absolute = unit, true
		}
	}
	if c.Unit == "s" && relative == "ms" {
		c.Unit, c.Absolute, c.ambiguous = "ms", false, true
	}
	return c, nil
}

// offset is how long a time is behind the first.
func (c *numericClock) offset(at string) (time.Duration, error) {
	v, err := number(at)
	if err != nil {
		return 0, err
	}
	unit := map[string]time.Duration{"s": time.Second, "ms": time.Millisecond, "us": time.Microsecond, "ns": 1}[c.Unit]
	if whole, err := strconv.ParseInt(at, 10, 64); err == nil && c.whole != 0 {
		v = float64(whole - c.whole)
	} else {
		v -= c.first
	}
	if math.Abs(v)*float64(unit) > float64(10*twoClocks) {
		return 0, fmt.Errorf("has the time %s, and the first is %s: the file mixes two clocks", at, c.First)
	}
	return time.Duration(math.Round(v * float64(unit))), nil
}

func number(at string) (float64, error) {
	v, err := strconv.ParseFloat(at, 64)
	switch {
	case err != nil || math.IsNaN(v) || math.IsInf(v, 0):
		return 0, fmt.Errorf("has the time %q, which is no number: the file mixes two clocks, or is damaged", at)
	case v < 0:
		return 0, fmt.Errorf("has the time %s, which is before 0: the file is damaged", at)
	}
	return v, nil
}

// period is a time of the file that something took.
func period(name string, v float64, unit time.Duration) (time.Duration, error) {
	d := v * float64(unit)
	switch {
	case v < 0:
		return 0, fmt.Errorf("has a negative time (%s is %g): the file is damaged", name, v)
	case !(d <= float64(twoClocks)):
		return 0, fmt.Errorf("has a time of more than a year (%s is %g): the file is damaged, or has another unit", name, v)
	}
	return time.Duration(math.Round(d)), nil
}

// numbering gives ids numbers from 1, in the order of their first appearance.
type numbering[K comparable] map[K]uint32

func (n numbering[K]) of(ids []K) []uint32 {
	out := make([]uint32, len(ids))
	for i, id := range ids {
		out[i] = n.number(id)
	}
	return out
}

func (n numbering[K]) number(id K) uint32 {
	v, ok := n[id]
	if !ok {
		v = uint32(len(n) + 1) //nolint:gosec // a file has fewer
		n[id] = v
	}
	return v
}

// sessionList are the sessions of a file, by their names in it.
type sessionList map[string]*sessionState

type sessionState struct {
	number, turns int
	ends          []turnEnd // of all turns so far
}

type turnEnd struct {
	record int
	at     time.Duration
}

// lookBack is among how many earlier turns one that a prompt continues is looked for.
const lookBack = 64

// add puts a record, which is about to be appended, into its session. It continues the latest turn that had ended and
// whose prompt it begins with. Without blocks the latest that had ended has to do; and where it is known how long that
// took, one with the same first block, whose history was edited. took is how long the record took; 0: not known. Where
// the file says the delay after the turn before (ThinkUs), it is that turn.
func (s sessionList) add(t *Trace, r *Record, name string, took time.Duration) {
	st := s[name]
	if st == nil {
		st = &sessionState{number: len(s) + 1}
		s[name] = st
	}
	st.turns++
	r.Session, r.Turn = st.number, st.turns
	if e := st.before(t, r); e != nil {
		r.Parent = e.record
		if t.Records[e.record].Offset < e.at && !r.ThinkUs.Valid { // it is known how long it took
			r.ThinkUs = meter.Some(max(0, (r.Offset - e.at).Microseconds()))
		}
	} else {
		r.ThinkUs.Valid = false
	}
	st.ends = append(st.ends, turnEnd{len(t.Records), r.Offset + took})
}

// before is the turn that a record continues; nil: none.
func (s *sessionState) before(t *Trace, r *Record) (edited *turnEnd) {
	for i := len(s.ends) - 1; i >= max(0, len(s.ends)-lookBack); i-- {
		e := &s.ends[i]
		if r.ThinkUs.Valid {
			return e
		}
		if e.at > r.Offset+rounding {
			continue
		}
		p := &t.Records[e.record]
		if len(p.Blocks) == 0 || len(r.Blocks) == 0 || begins(p, r) {
			return e
		}
		if edited == nil && p.Offset < e.at && p.Blocks[0].ID == r.Blocks[0].ID {
			edited = e
		}
	}
	return edited
}

// begins reports whether r's prompt begins with the whole blocks of p's, or its only one.
func begins(p, r *Record) bool {
	n := max(1, len(p.Blocks)-1)
	if len(r.Blocks) < n {
		return false
	}
	for i := range n {
		if p.Blocks[i].ID != r.Blocks[i].ID {
			return false
		}
	}
	return true
}

// rounding is by how much a turn may seem to begin before the end of the one that it continues: files round to seconds.
const rounding = time.Second

// inferSessions finds the sessions of a trace that names none: a prompt that begins with all whole blocks of an earlier one,
// two or more, belongs to its session. They serve to sample; no request waits for another.
func (t *Trace) inferSessions() {
	ended := map[uint64]int{} // the last record with exactly these whole blocks
	sessions := 0
	for i := range t.Records {
		r := &t.Records[i]
		before, own := -1, uint64(0)
		h := uint64(0)
		for k, b := range r.Blocks {
			if int(b.Tokens) < t.BlockTokens {
				break
			}
			h = (h ^ uint64(b.ID)) * 0x9E3779B97F4A7C15
			h ^= h >> 29
			if j, ok := ended[h]; ok && k > 0 {
				before = j
			}
			if k > 0 {
				own = h
			}
		}
		if before >= 0 {
			r.Session, r.Turn = t.Records[before].Session, t.Records[before].Turn+1
		} else {
			sessions++
			r.Session, r.Turn = sessions, 1
		}
		if own != 0 {
			ended[own] = i
		}
	}
}
