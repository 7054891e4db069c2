package trace

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"wattline/meter"
)

// mooncakeLine is a line of a Mooncake trace. session_id and delay (milliseconds after the turn before) are AIPerf's.
type mooncakeLine struct {
	Timestamp json.RawMessage `json:"timestamp"`
	Input     *int            `json:"input_length"`
	Output    *int            `json:"output_length"`
	HashIDs   []uint64        `json:"hash_ids"`
	SessionID json.RawMessage `json:"session_id"`
	DelayMs   *float64        `json:"delay"`
}

// mooncakeBlock is the size of Mooncake's blocks. Other traces of the same form have others; see blockSize.
const mooncakeBlock = 512

// readMooncake reads a Mooncake trace: one object a line.
func (t *Trace) readMooncake(lines *lineReader) error {
	ids, sessions, clock := numbering[uint64]{}, sessionList{}, (*numericClock)(nil)
	for ok := true; ok; ok = lines.next() {
		var l mooncakeLine
		if err := json.Unmarshal(lines.text, &l); err != nil {
			return lines.errorf("is no record: %s", jsonError(err))
		}
		if l.Input == nil || l.Output == nil || len(l.Timestamp) == 0 {
			return lines.errorf("has no timestamp, input_length or output_length")
		}
		at := strings.Trim(string(l.Timestamp), `"`)
		if clock == nil {
			c, err := newNumericClock(at, "ms")
			if err != nil {
				return lines.errorf("%s", err)
			}
			clock, t.Clock = c, c.Clock
		}
		r := Record{Line: lines.n, Input: *l.Input, Output: *l.Output, Parent: -1}
		var err error
		if r.Offset, err = clock.offset(at); err != nil {
			return lines.errorf("%s", err)
		}
		if ok, err := t.possible(&r); err != nil {
			return err
		} else if !ok {
			continue
		}
		if len(l.HashIDs) > 0 {
			if t.BlockTokens == 0 {
				t.BlockTokens = blockSize(r.Input, len(l.HashIDs))
			}
			if r.Blocks = regularBlocks(ids.of(l.HashIDs), r.Input, t.BlockTokens); r.Blocks == nil {
				t.leaveOut(r.Line, fmt.Sprintf("whose hash_ids of %d tokens do not fit the prompt", t.BlockTokens))
				continue
			}
		}
		if len(l.SessionID) > 0 {
			sessions.add(t, &r, string(l.SessionID), 0)
			if l.DelayMs != nil && r.Parent >= 0 {
				r.ThinkUs = meter.Some(int64(*l.DelayMs * 1e3))
			}
		}
		t.Records = append(t.Records, r)
	}
	if len(sessions) == 0 {
		t.inferSessions()
	}
	return lines.err
}

// blockSize is the size of which a prompt has so many blocks: Mooncake's, or another power of two.
func blockSize(input, blocks int) int {
	for _, size := range []int{mooncakeBlock, 16, 32, 64, 128, 256, 1024, 2048} {
		if (input+size-1)/size == blocks {
			return size
		}
	}
	return mooncakeBlock
}

// numericClock reads times that are numbers.
type numericClock struct {
	Clock
	first float64
	whole int64 // of first, where it has no fraction: nanoseconds since 1970 are too large for a float
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
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
		return 0, fmt.Errorf("has the time %q, which is no number: the file mixes two clocks, or is damaged", at)
	}
	return v, nil
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

// add puts a record, which is about to be appended, into its session: it continues the latest turn that had ended. took is
// how long the record took; 0: not known.
func (s sessionList) add(t *Trace, r *Record, name string, took time.Duration) {
	st := s[name]
	if st == nil {
		st = &sessionState{number: len(s) + 1}
		s[name] = st
	}
	st.turns++
	r.Session, r.Turn = st.number, st.turns
	for i := len(st.ends) - 1; i >= 0; i-- {
		if e := st.ends[i]; e.at <= r.Offset+rounding {
			r.Parent = e.record
			if t.Records[e.record].Offset < e.at { // it is known how long it took
				r.ThinkUs = meter.Some(max(0, (r.Offset - e.at).Microseconds()))
			}
			break
		}
	}
	st.ends = append(st.ends, turnEnd{len(t.Records), r.Offset + took})
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
