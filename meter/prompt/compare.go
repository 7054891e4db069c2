package prompt

import "bytes"

// Difference is how a prompt (q) relates to an earlier one (p).
type Difference struct {
	Part   int   // the first part of q that is not p's; len(q.Parts): q is the beginning of p, or all of it
	Offset int   // how much of that part is p's, in bytes: exact where both texts are there, else whole blocks
	Exact  bool  // both texts are there
	Common int64 // bytes with which both prompts begin
	Whole  bool  // all of p is the beginning of q

	// Matched is the weight of what a server finds equal at the beginning. Templates put the tools before the system prompt or
	// behind it; it is the lesser of both orders.
	Matched float64
	// Kept is the weight of q up to the end of what it shares with p behind the difference: what could have been reused if
	// the earlier prompt had had q's form. It is Matched's upper order where nothing is shared there.
	Kept float64
	// After is how many bytes behind the first difference are p's too; Shared is After and Common.
	After  int
	Shared int64
	// Reply is the weight of the assistant's parts of q right behind p's last part. It is 0 where that part is not shared, or was
	// changed.
	Reply float64

	Name   string // of the part that changed, "" without a change
	Change Change // what changed; its Cause is "" where nothing behind the difference is shared
}

// Weights of what a prompt has beside its bytes. A template writes some tokens around each part; an image has as many tokens
// as its model makes of it, whatever its bytes.
const (
	partWeight  = 16
	mediaWeight = 3000
)

func (p *Part) weight() float64 {
	if p.Kind == Image || p.Kind == Audio {
		return mediaWeight
	}
	return float64(p.Len + partWeight)
}

// Weight is the sum of the parts' weights, the measure in which tokens are estimated.
func (f *Fingerprint) Weight() (w float64) {
	for i := range f.Parts {
		w += f.Parts[i].weight()
	}
	return w
}

// reply is the weight of the assistant's parts from the i-th part on.
func (f *Fingerprint) reply(i int) (w float64) {
	for ; i < len(f.Parts) && f.Parts[i].Role == Assistant; i++ {
		w += f.Parts[i].weight()
	}
	return w
}

// HasMedia reports whether the prompt has images or sound, whose tokens its bytes do not tell.
func (f *Fingerprint) HasMedia() bool {
	for i := range f.Parts {
		if k := f.Parts[i].Kind; k == Image || k == Audio {
			return true
		}
	}
	return false
}

// Common returns how many bytes two prompts begin with, by their fingerprints alone: whole parts and blocks.
func Common(q, p *Fingerprint) (n int64) {
	i := 0
	for ; i < len(q.Parts) && i < len(p.Parts) && q.Parts[i].same(&p.Parts[i]); i++ {
		n += int64(q.Parts[i].Len)
	}
	if i < len(q.Parts) && i < len(p.Parts) {
		n += int64(blocksEqual(&q.Parts[i], &p.Parts[i]))
	}
	return n
}

// blocksEqual returns with how many bytes two parts begin, in whole blocks.
func blocksEqual(a, b *Part) int {
	n := 0
	for i := 0; i < len(a.Blocks) && i < len(b.Blocks); i++ {
		if a.Blocks[i] == 0 || b.Blocks[i] == 0 { // a stored fingerprint may lack some
			continue
		}
		if a.Blocks[i] != b.Blocks[i] {
			break
		}
		n = i + 1
	}
	return n * Block
}

// overlap returns with how many bytes two parts begin and end alike. Without the texts it knows only blocks at the beginning.
func overlap(q, p *Prompt, i, j int) (begin, end int, exact bool) {
	a, b := &q.Parts[i], &p.Parts[j]
	if a.Kind != b.Kind || a.Role != b.Role {
		return 0, 0, true
	}
	s, t := q.text(i), p.text(j)
	if s == nil || t == nil {
		return blocksEqual(a, b), 0, false
	}
	begin = commonBegin(s, t)
	if end = commonEnd(s[begin:], t[begin:]); a.Role == NoRole && a.Kind == Text {
		end = max(end, commonBehind(s[begin:], t[begin:]))
	}
	return begin, end, true
}

// commonBehind returns how many bytes two texts share behind a small difference with which they begin. One of them may go on
// further: a prompt that is one text grows at its end.
func commonBehind(a, b []byte) int {
	const probe, within = 48, 2048
	for skip := 0; skip <= within && skip+probe <= len(b); {
		if at := bytes.Index(a[:min(len(a), within+probe)], b[skip:skip+probe]); at >= 0 {
			return commonBegin(a[at:], b[skip:])
		}
		n := bytes.IndexAny(b[skip:], " \n")
		if n < 0 {
			break
		}
		skip += n + 1
	}
	return 0
}

func commonBegin(a, b []byte) int {
	n := min(len(a), len(b))
	i := 0
	for i+64 <= n && bytes.Equal(a[i:i+64], b[i:i+64]) {
		i += 64
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}

func commonEnd(a, b []byte) int {
	n := min(len(a), len(b))
	i := 0
	for i < n && a[len(a)-1-i] == b[len(b)-1-i] {
		i++
	}
	return i
}

// step is a part of q that stands for a part of p: the same, or a changed one.
type step struct {
	q, p       int
	begin, end int  // bytes that a changed part has in common with p's
	exact      bool // they are
	same       bool
	rewritten  bool // the same JSON or text in another form
}

// of reports whether all that q's part has is p's.
func (s *step) of(part *Part) bool {
	return s.same || s.rewritten || s.exact && s.begin+s.end >= part.Len && part.Len > 0
}

// Compare finds where q parts from p. session says that both are known to be turns of one session.
func Compare(q, p *Prompt, session bool) *Difference {
	d := &Difference{}
	k := 0
	for k < len(q.Parts) && k < len(p.Parts) && q.Parts[k].same(&p.Parts[k]) {
		d.Common += int64(q.Parts[k].Len)
		k++
	}
	d.Part, d.Exact, d.Whole = k, true, k == len(p.Parts) && !p.Cut
	low, high := matched(q, p)
	if k < len(q.Parts) && k < len(p.Parts) {
		d.Offset, _, d.Exact = overlap(q, p, k, k)
		d.Common += int64(d.Offset)
	}
	d.Matched, d.Kept, d.Shared = low, high, d.Common
	if d.Whole {
		d.Reply = q.reply(k)
	}
	if k == len(q.Parts) || k == len(p.Parts) {
		return d
	}
	steps := align(q, p, k)
	n, kept, after := shared(q, p, k, steps, session)
	search := maxSearched
	if all, bytes := moved(q, p, k, steps, &search); all > 0 {
		n, kept, after = len(steps), all, bytes
	}
	if n == 0 {
		return d
	}
	d.Kept, d.After = max(kept, high), after
	d.Shared += int64(after)
	if last := steps[n-1]; last.p == len(p.Parts)-1 && !p.Cut && last.of(&q.Parts[last.q]) {
		d.Reply = q.reply(last.q + 1)
	}
	d.Change = describe(q, p, k, steps[:n], &search)
	if d.Name = q.Name(k); p.Parts[k].Kind == Tool && q.Parts[k].Kind != Tool { // it was taken away
		d.Name = p.Name(k)
	}
	return d
}

// moved recognises a prompt that has all of p, but not in p's order: each part behind the difference, or what it lost, stands
// somewhere in q. It returns the weight of p, and how many bytes there are behind the difference; 0 if it is none.
func moved(q, p *Prompt, k int, steps []step, search *int) (kept float64, after int) {
	there := map[uint64]bool{}
	for i := k; i < len(q.Parts); i++ {
		there[q.Parts[i].Sum] = true
	}
	next := 0 // steps are in the order of p
	for j := k; j < len(p.Parts); j++ {
		for next < len(steps) && steps[next].p < j {
			next++
		}
		if !there[p.Parts[j].Sum] && (next == len(steps) || steps[next].p != j || !cutElsewhere(q, p, steps[next], search)) {
			return 0, 0
		}
		after += p.Parts[j].Len
	}
	if after < leastAfter {
		return 0, 0
	}
	return p.Weight(), after
}

// What one comparison searches for lost pieces of text, in bytes; a search costs some more than the text it goes through.
const (
	maxSearched = 16 << 20
	searchCost  = 1 << 10
)

// cutElsewhere reports whether a changed part of p lost a piece of its text to a later part of q. It looks no further when
// search is used up.
func cutElsewhere(q, p *Prompt, s step, search *int) bool {
	const least = 32
	if s.same || !s.exact || s.begin+s.end < q.Parts[s.q].Len || q.Parts[s.q].Len == 0 {
		return false
	}
	lost := bytes.TrimSpace(p.text(s.p)[s.begin : p.Parts[s.p].Len-s.end])
	if len(lost) < least {
		return false
	}
	for i := s.q + 1; i < len(q.Parts); i++ {
		if *search -= q.Parts[i].Len + searchCost; *search < 0 {
			return false
		}
		if bytes.Contains(q.text(i), lost) {
			return true
		}
	}
	return false
}

// matched returns the weight of the common beginning in both orders of tools and system prompt, the lesser one first.
func matched(q, p *Prompt) (low, high float64) {
	split := func(f *Fingerprint) (settings, tools, system int) {
		for settings < len(f.Parts) && f.Parts[settings].Kind == Settings {
			settings++
		}
		for tools = settings; tools < len(f.Parts) && f.Parts[tools].Kind == Tool; {
			tools++
		}
		for system = tools; system < len(f.Parts) && f.Parts[system].Role == System; {
			system++
		}
		return settings, tools, system
	}
	qs, qt, qy := split(&q.Fingerprint)
	ps, pt, py := split(&p.Fingerprint)
	if _, all := begins(q, p, 0, qs, 0, ps); !all {
		return 0, 0
	}
	tools, allTools := begins(q, p, qs, qt, ps, pt)
	system, allSystem := begins(q, p, qt, qy, pt, py)
	first, second := tools, system
	if allTools {
		first += system
	}
	if allSystem {
		second += tools
	}
	if allTools && allSystem {
		rest, _ := begins(q, p, qy, len(q.Parts), py, len(p.Parts))
		return first + rest, first + rest
	}
	return min(first, second), max(first, second)
}

// begins returns the weight with which two ranges of parts begin alike, and whether they are alike to the end.
func begins(q, p *Prompt, i, iEnd, j, jEnd int) (w float64, all bool) {
	for ; i < iEnd && j < jEnd && q.Parts[i].same(&p.Parts[j]); i, j = i+1, j+1 {
		w += q.Parts[i].weight()
	}
	if i < iEnd && j < jEnd {
		n, _, _ := overlap(q, p, i, j)
		w += float64(n)
	}
	return w, i == iEnd && j == jEnd
}

// align pairs the parts of q from k on with those of p: one by one while they are equal or alike, and then the equal ones
// that stand in the same order and have most bytes.
func align(q, p *Prompt, k int) (steps []step) {
	i, j := k, k
	for ; i < len(q.Parts) && j < len(p.Parts); i, j = i+1, j+1 {
		if q.Parts[i].same(&p.Parts[j]) {
			steps = append(steps, step{q: i, p: j, same: true})
			continue
		}
		begin, end, exact := overlap(q, p, i, j)
		image := q.Parts[i].Kind == Image && p.Parts[j].Kind == Image
		alike := 2*(begin+end) >= min(q.Parts[i].Len, p.Parts[j].Len)
		rewritten := q.Parts[i].Kind == p.Parts[j].Kind && rewrites(q.text(i), p.text(j))
		if !image && !alike && !rewritten {
			break
		}
		steps = append(steps, step{q: i, p: j, begin: begin, end: end, exact: exact, rewritten: rewritten})
	}
	return append(steps, increasing(q, p, i, j)...)
}

// maxAlike bounds how many equal parts of p one part of q is compared with.
const maxAlike = 8

// increasing returns the pairs of equal parts, in the order of both prompts, that have most bytes together.
func increasing(q, p *Prompt, from, behind int) []step {
	where := map[uint64][]int{}
	for j := len(p.Parts) - 1; j >= behind; j-- {
		if at := where[p.Parts[j].Sum]; len(at) < maxAlike {
			where[p.Parts[j].Sum] = append(at, j) // the last ones first
		}
	}
	type pair struct{ q, p, weight, before int }
	pairs := []pair{}
	best := make([]int, len(p.Parts)+1) // a Fenwick tree: by place in p, 1 + the index of the heaviest chain that ends there
	weight := func(n int) int {
		if n == 0 {
			return 0
		}
		return pairs[n-1].weight
	}
	for i := from; i < len(q.Parts); i++ {
		for _, j := range where[q.Parts[i].Sum] {
			if !q.Parts[i].same(&p.Parts[j]) {
				continue
			}
			before := 0
			for at := j; at > 0; at -= at & -at { // of the places below j
				if weight(best[at]) > weight(before) {
					before = best[at]
				}
			}
			pairs = append(pairs, pair{i, j, weight(before) + q.Parts[i].Len, before})
			for at := j + 1; at < len(best); at += at & -at {
				if weight(best[at]) < pairs[len(pairs)-1].weight {
					best[at] = len(pairs)
				}
			}
		}
	}
	last := 0
	for n := 1; n <= len(pairs); n++ {
		if weight(n) > weight(last) {
			last = n
		}
	}
	var steps []step
	for ; last > 0; last = pairs[last-1].before {
		steps = append(steps, step{q: pairs[last-1].q, p: pairs[last-1].p, same: true})
	}
	for a, b := 0, len(steps)-1; a < b; a, b = a+1, b-1 {
		steps[a], steps[b] = steps[b], steps[a]
	}
	return steps
}

// What must be shared behind a difference before it is called a change of the same prompt, and not another prompt with the
// same beginning.
const (
	leastAfter   = 64 // bytes
	ofInserted   = 4  // a part of this many of what was put in between
	ofSameSesion = 16 // the same, in one session
)

// shared returns how many of the steps belong to one changed prompt, the weight of q up to the last of them, and how many
// bytes behind the difference they share. What q has in place of parts of p counts, what was put in beside them does not.
func shared(q, p *Prompt, k int, steps []step, session bool) (n int, kept float64, after int) {
	ratio := float64(ofInserted)
	if session {
		ratio = ofSameSesion
	}
	base := 0.0
	for i := range k {
		base += q.Parts[i].weight()
	}
	var t tally
	nextQ, nextP := k, k
	for at, s := range steps {
		for ; nextQ < s.q; nextQ++ {
			t.inserted += q.Parts[nextQ].weight()
		}
		for ; nextP < s.p; nextP++ {
			t.removed += p.Parts[nextP].weight()
		}
		nextQ, nextP = s.q+1, s.p+1
		t.add(s, &q.Parts[s.q], &p.Parts[s.p], s.q == k)
		part := ratio
		if !t.answered { // less is known: a new session with nearly the same tools looks so
			part = 1
		}
		if got := t.after(); got >= leastAfter && float64(got)*part >= t.inserted && (t.answered || t.alike) {
			n, after = at+1, got
			kept = base + t.equal + min(t.inserted, t.removed)
		}
	}
	return n, kept, after
}

// tally sums what lies behind a difference.
type tally struct {
	equal, inserted, removed float64 // weights
	whole, head, ends        int     // bytes: of equal parts, of the ends of changed parts that come first, and of changed messages
	answered                 bool    // an equal part is an assistant's or a tool's: the same conversation goes on
	alike                    bool    // a part that comes before the messages is changed in a small place
}

func (t *tally) add(s step, a, b *Part, first bool) {
	if s.same {
		t.equal += a.weight()
		t.whole += a.Len
		t.answered = t.answered || a.Role == Assistant || a.Role == ToolRole
		return
	}
	if a.Kind == Image || a.Kind == Audio {
		t.inserted, t.removed = t.inserted+a.weight(), t.removed+b.weight()
		return
	}
	common := float64(s.begin + s.end)
	t.equal += common + partWeight
	t.inserted += float64(a.Len) - common
	t.removed += max(0, float64(b.Len)-common)
	shared := s.end
	if !first {
		shared += s.begin
	}
	if s.rewritten {
		shared = a.Len
	}
	if a.Role == NoRole || a.Role == System {
		t.head += shared
		t.alike = t.alike || s.rewritten
		t.alike = t.alike || 10*(s.begin+s.end) >= 8*min(a.Len, b.Len)
	} else {
		t.ends += shared
	}
}

// after is how many shared bytes count: the ends of changed messages do where the conversation is known to be the same.
func (t *tally) after() int {
	if t.answered {
		return t.whole + t.head + t.ends
	}
	return t.whole + t.head
}
