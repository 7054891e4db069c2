package prompt

import (
	"bytes"
	"regexp"
	"slices"
)

// The causes of a changed prompt.
const (
	VolatileLine     = "volatile_line" // a line with a counter, an id, a hash, a date, a time or a path that changes from turn to turn
	SettingsChanged  = "settings_changed"
	ToolsChanged     = "tools_changed"
	ToolsReordered   = "tools_reordered"
	SystemChanged    = "system_changed"
	HistoryEdited    = "history_edited"
	HistoryCompacted = "history_compacted"
	ReasoningDropped = "reasoning_dropped"
	MessageInserted  = "message_inserted"
	MessageMoved     = "message_moved"
	ImageReencoded   = "image_reencoded"
	Reserialised     = "reserialised" // the same text with other white space, or the same members in another order
)

// Change is what changed from one prompt to the next.
type Change struct {
	Cause string
	What  string // of a volatile line: counter, id, hash, date, time or path
	// Before and Now are the first lines that differ. They are people's texts: keep them in memory.
	Before, Now string
}

// describe names the change at part k, where q and p share the steps behind it.
func describe(q, p *Prompt, k int, steps []step, search *int) Change {
	a, b := &q.Parts[k], &p.Parts[k]
	var c Change
	if a.Kind == b.Kind && a.Role == b.Role {
		c = changed(q.text(k), p.text(k))
	}
	end := steps[len(steps)-1].q
	removed, inserted := beside(q, p, k, steps)
	switch {
	case a.Kind == Settings || b.Kind == Settings:
		c.Cause = SettingsChanged
	case a.Kind == Tool || b.Kind == Tool:
		if sameTools(&q.Fingerprint, &p.Fingerprint) {
			c.Cause = ToolsReordered
		} else if c.Cause == "" {
			c.Cause = ToolsChanged
		}
	case recurs(q, p, removed, k, steps) || anyCut(q, p, steps, search):
		c.Cause = MessageMoved
	case a.Kind == Image && b.Kind == Image:
		c.Cause = ImageReencoded
	case b.Kind == Reasoning && slices.Contains(removed, k):
		c.Cause = ReasoningDropped
	case c.Cause != "":
	case a.Role == System && b.Role == System, a.Role == System && a.Message <= 1, b.Role == System && b.Message <= 1:
		c.Cause = SystemChanged
	case compacted(q, p, k, end, removed, inserted):
		c.Cause = HistoryCompacted
	case len(removed) == 0 && len(inserted) > 0:
		c.Cause = MessageInserted
	default:
		c.Cause = HistoryEdited
	}
	return c
}

// beside lists the parts of p and of q that have no counterpart, up to the last step.
func beside(q, p *Prompt, k int, steps []step) (removed, inserted []int) {
	nextQ, nextP := k, k
	for _, s := range steps {
		for ; nextQ < s.q; nextQ++ {
			inserted = append(inserted, nextQ)
		}
		for ; nextP < s.p; nextP++ {
			removed = append(removed, nextP)
		}
		nextQ, nextP = s.q+1, s.p+1
	}
	for ; nextP < len(p.Parts); nextP++ {
		removed = append(removed, nextP)
	}
	return removed, inserted
}

func sameTools(q, p *Fingerprint) bool {
	sums := func(f *Fingerprint) (out []uint64) {
		for i := range f.Parts {
			if f.Parts[i].Kind == Tool {
				out = append(out, f.Parts[i].Sum)
			}
		}
		slices.Sort(out)
		return out
	}
	return slices.Equal(sums(q), sums(p))
}

// recurs reports whether a removed part stands elsewhere in q, where it stands for no other part of p. A model may say the
// same again, so its answers do not count.
func recurs(q, p *Prompt, removed []int, k int, steps []step) bool {
	const least = 16 // shorter ones may be said twice
	taken := map[int]bool{}
	for _, s := range steps {
		taken[s.q] = true
	}
	there := map[uint64]int{}
	for i := k; i < len(q.Parts); i++ {
		if !taken[i] {
			there[q.Parts[i].Sum] = i
		}
	}
	for _, j := range removed {
		i, ok := there[p.Parts[j].Sum]
		if ok && p.Parts[j].Len >= least && p.Parts[j].Role != Assistant && q.Parts[i].same(&p.Parts[j]) {
			return true
		}
	}
	return false
}

func anyCut(q, p *Prompt, steps []step, search *int) bool {
	return slices.ContainsFunc(steps, func(s step) bool { return cutElsewhere(q, p, s, search) })
}

// compacted reports that much was replaced by little: messages by a summary, or a tool's result by a note.
func compacted(q, p *Prompt, k, end int, removed, inserted []int) bool {
	if q.Parts[k].Kind == p.Parts[k].Kind && 2*q.Parts[k].Len < p.Parts[k].Len && p.Parts[k].Kind == ToolResult {
		return true
	}
	var out, in int
	for _, j := range removed {
		out += p.Parts[j].Len
	}
	for _, i := range inserted {
		if i <= end {
			in += q.Parts[i].Len
		}
	}
	return len(removed) > 1 && len(removed) > len(inserted) && out > in
}

// maxLines bounds how many lines of a text may differ for a change to be one of volatile lines.
const maxLines = 4

// changed compares two versions of a part. Its Cause is VolatileLine, Reserialised, or "" for any other change; without the
// texts it knows nothing.
func changed(q, p []byte) (c Change) {
	if q == nil || p == nil {
		return c
	}
	begin := commonBegin(q, p)
	c.Before, c.Now = lineAt(p, begin), lineAt(q, begin)
	if middle := q[begin : len(q)-commonEnd(q[begin:], p[begin:])]; rewrites(q, p) && (len(middle) == 0 || bytes.ContainsAny(middle, "{}[]\",\t\n ")) {
		c.Cause = Reserialised
		return c
	}
	now, before := bytes.Split(q, []byte("\n")), bytes.Split(p, []byte("\n"))
	differing := 0
	for i := range min(len(now), len(before)) {
		if bytes.Equal(now[i], before[i]) || i == len(before)-1 && bytes.HasPrefix(now[i], before[i]) { // or it goes on
			continue
		}
		what := volatile(now[i], before[i])
		if differing++; what == "" || differing > maxLines {
			return c
		}
		if c.What == "" {
			c.What = what
		}
	}
	if differing == 0 || len(now) < len(before) {
		c.What = ""
		return c
	}
	c.Cause = VolatileLine
	return c
}

// lineAt returns the line of a text around a place, or what of it is near.
func lineAt(p []byte, at int) string {
	const near = 120
	from, to := max(0, at-near), min(len(p), at+near)
	if n := bytes.LastIndexByte(p[from:at], '\n'); n >= 0 {
		from += n + 1
	}
	if n := bytes.IndexByte(p[at:to], '\n'); n >= 0 {
		to = at + n
	}
	return string(bytes.ToValidUTF8(p[from:to], nil))
}

var (
	dates    = regexp.MustCompile(`\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}|(?i)\b(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|mon|tue|wed|thu|fri|sat|sun)[a-z]*\b`)
	times    = regexp.MustCompile(`\d{1,2}:\d{2}`)
	numbers  = regexp.MustCompile(`^[-+#]?\d[\d.,]*$`)
	hexes    = regexp.MustCompile(`^(0x)?[0-9a-fA-F]{4,}$`)
	uuids    = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	mixedIDs = regexp.MustCompile(`^[A-Za-z0-9_.~+=-]*\d[A-Za-z0-9_.~+=-]*$`)
)

// volatile says what differs between two versions of a line, "" if it is nothing that changes by itself.
func volatile(a, b []byte) string {
	begin := commonBegin(a, b)
	end := commonEnd(a[begin:], b[begin:])
	x, y := word(a, begin, end), word(b, begin, end)
	dated := func(at *regexp.Regexp) bool { return at.Match(near(a, begin, end)) && at.Match(near(b, begin, end)) }
	both := func(r *regexp.Regexp) bool { return r.Match(x) && r.Match(y) }
	switch {
	case len(x) == 0 || len(y) == 0 || len(x) > 200 || len(y) > 200:
		return ""
	case dated(times):
		return "time"
	case dated(dates):
		return "date"
	case both(uuids):
		return "id"
	case both(numbers):
		return "counter"
	case both(hexes) && bytes.ContainsAny(append(bytes.Clone(x), y...), "0123456789"):
		return "hash"
	case bytes.IndexByte(x, '/') >= 0 && bytes.IndexByte(y, '/') >= 0 && !bytes.ContainsAny(x, " \t") && !bytes.ContainsAny(y, " \t"):
		return "path"
	case both(mixedIDs):
		return "id"
	}
	return ""
}

// wordByte reports a byte that belongs to a word, a number, an id, a date or a path.
func wordByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80 || bytes.IndexByte([]byte("_-./:+#~"), c) >= 0
}

// word returns the words in which a line differs: its middle between the common begin and end, whole.
func word(line []byte, begin, end int) []byte {
	from, to := begin, len(line)-end
	for from > 0 && wordByte(line[from-1]) {
		from--
	}
	for to < len(line) && wordByte(line[to]) {
		to++
	}
	return bytes.Trim(line[from:to], ".:,-")
}

// near is the difference with what stands around it: a date's day is told by its month.
func near(line []byte, begin, end int) []byte {
	const around = 12
	return line[max(0, begin-around):min(len(line), len(line)-end+around)]
}

// rewrites reports two texts that are made of the same bytes but for white space: other white space, or other order.
func rewrites(a, b []byte) bool {
	if len(a) == 0 || len(b) == 0 || 4*min(len(a), len(b)) < max(len(a), len(b)) {
		return false
	}
	var count [256]int
	for _, c := range a {
		count[c]++
	}
	for _, c := range b {
		count[c]--
	}
	for c, n := range count {
		if n != 0 && !space(byte(c)) {
			return false
		}
	}
	return true
}
