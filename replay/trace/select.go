package trace

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"wattline/replay"
)

// Options choose the part of a trace that is sent.
type Options struct {
	Speed    float64       // 2: in half the time; 0: 1
	From, To time.Duration // the window, after the first record; To 0: to the end
	Sample   float64       // share of the sessions, above 0 and up to 1; 0: all
	Seed     uint64        // of the sample
	Fit      string        // what becomes of records that do not fit: "drop" or "clip"; "": an error
	Replies  string        // replay.RecordedReplies or replay.RealReplies; "": recorded
}

// What becomes of records that are longer than the context.
const (
	Drop = "drop" // they are not sent
	Clip = "clip" // their prompts are cut at the end, and replies of more than half the context first
)

// Speeds that a trace can have.
const (
	slowest = 0.01
	fastest = 10_000
)

// ParseOptions reads the flags as users write them: "2x" or "2", "10m..40m" (either end may be left out), "5%" or "0.05",
// "drop" or "clip", "recorded" or "real". Empty ones take their defaults.
func ParseOptions(speed, window, sample, fit, replies string) (o Options, err error) {
	if speed != "" {
		o.Speed, err = strconv.ParseFloat(strings.TrimSuffix(speed, "x"), 64)
		if err != nil || !(o.Speed >= slowest) || o.Speed > fastest {
			return o, fmt.Errorf("--speed %s is no speed from %g to %d: write 2x for half the time, 0.5x for twice", speed, slowest, fastest)
		}
	}
	if window != "" {
		from, to, ok := strings.Cut(window, "..")
		if ok {
			if from != "" {
				o.From, err = time.ParseDuration(from)
			}
			if err == nil && to != "" {
				o.To, err = time.ParseDuration(to)
			}
		}
		if !ok || err != nil || o.From < 0 || to != "" && o.To <= o.From {
			return o, fmt.Errorf("--window %s is no window: write 10m..40m, counted from the first record", window)
		}
	}
	if sample != "" {
		digits, percent := strings.CutSuffix(sample, "%")
		o.Sample, err = strconv.ParseFloat(digits, 64)
		if percent {
			o.Sample /= 100
		}
		if err != nil || !(o.Sample > 0) || o.Sample > 1 {
			return o, fmt.Errorf("--sample %s is no share: write 5%% or 0.05", sample)
		}
	}
	if fit != "" && fit != Drop && fit != Clip {
		return o, fmt.Errorf("--fit-context %s is not known: write drop (leave long records out) or clip (shorten them)", fit)
	}
	if replies != "" && replies != replay.RecordedReplies && replies != replay.RealReplies {
		return o, fmt.Errorf("--replies %s is not known: write recorded (stand-ins of the recorded length) or real (what the server gives)", replies)
	}
	o.Fit, o.Replies = fit, replies
	return o, nil
}

// complete sets the defaults. A trace that says how much of a reply a prompt repeats is sent with real replies.
func (o *Options) complete(t *Trace) {
	if o.Speed == 0 {
		o.Speed = 1
	}
	if o.Sample == 0 {
		o.Sample = 1
	}
	if o.Replies == "" {
		o.Replies = replay.RecordedReplies
		if slices.ContainsFunc(t.Records, func(r Record) bool { return r.ReplyTokens.Valid }) {
			o.Replies = replay.RealReplies
		}
	}
}

// Select returns the records that are sent to a server with context tokens a slot (0: not known) whose prompts begin with
// lead tokens that are not the trace's, and what was chosen. Offsets count from the first of them.
func (t *Trace) Select(o Options, context, lead int) ([]Record, *replay.Recording, error) {
	o.complete(t)
	info := &replay.Recording{
		File: t.File, SHA256: t.SHA256, Format: t.Format, Clock: t.Clock.String(), BlockTokens: t.BlockTokens, Records: len(t.Records),
		Sessions: t.Sessions(), SpanS: replay.Some(t.Span().Seconds()), Speed: o.Speed, Sample: o.Sample, Fit: o.Fit, Replies: o.Replies,
	}
	info.Measured = slices.ContainsFunc(t.Records, func(r Record) bool { return r.Observed != nil })
	for _, p := range t.Impossible {
		info.LeftOut = append(info.LeftOut, p.String())
	}
	info.Notes = append(info.Notes, t.Notes...)
	if days := t.Span().Hours() / 24 / o.Speed; days > twoClocks.Hours()/24 {
		return nil, nil, fmt.Errorf("%s: at --speed %gx it takes %.0f days: give a larger --speed", t.File, o.Speed, days)
	}
	keep := make([]bool, len(t.Records))
	for i := range keep {
		keep[i] = true
	}
	if o.From > 0 || o.To > 0 {
		info.FromS = replay.Some(o.From.Seconds())
		if o.To > 0 {
			info.ToS = replay.Some(o.To.Seconds())
		}
		for i := range t.Records {
			at := t.Records[i].Offset
			keep[i] = at >= o.From && (o.To == 0 || at < o.To)
		}
		if !slices.Contains(keep, true) {
			return nil, nil, fmt.Errorf("no record of %s lies in --window: its records span %v", t.File, t.Span())
		}
	}
	t.sample(o, keep)
	out := slices.Clone(t.Records)
	if err := fit(out, keep, o.Fit, context, lead, info); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", t.File, err)
	}
	out = compact(out, keep, info)
	giveBlocks(out)
	info.Sent = len(out)
	for i := range out {
		info.LargestTokens = max(info.LargestTokens, out[i].Input+out[i].Output)
	}
	info.Lasts = replay.Some(out[len(out)-1].Offset.Seconds() / o.Speed)
	if n := info.NotChild; n > 0 {
		info.Notes = append(info.Notes, fmt.Sprintf("%s at the recorded moment, because the earlier turn is not sent", count(n, "turn comes", "turns come")))
	}
	return out, info, nil
}

// String says it in words.
func (c Clock) String() string {
	if c.Absolute {
		return fmt.Sprintf("absolute clock (%s) from %s", c.Unit, c.First)
	}
	return fmt.Sprintf("relative clock (%s) from %s", c.Unit, c.First)
}

// sample keeps a share of the sessions, by chance but the same for one seed.
func (t *Trace) sample(o Options, keep []bool) {
	if o.Sample >= 1 {
		return
	}
	var names []int
	index := map[int]int{} // of a session in names
	for i := range t.Records {
		if keep[i] {
			if n := t.sessionOf(i); index[n] == 0 {
				names = append(names, n)
				index[n] = len(names)
			}
		}
	}
	order := rand.New(rand.NewPCG(o.Seed, 0x7472616365)).Perm(len(names))
	chosen := map[int]bool{}
	for _, k := range order[:max(1, int(math.Round(o.Sample*float64(len(names)))))] {
		chosen[names[k]] = true
	}
	for i := range keep {
		keep[i] = keep[i] && chosen[t.sessionOf(i)]
	}
}

// sessionOf is a record's session; a record without one is its own.
func (t *Trace) sessionOf(i int) int {
	if s := t.Records[i].Session; s > 0 {
		return s
	}
	return -1 - i
}

// fit drops or shortens the records that are longer than the context.
func fit(list []Record, keep []bool, how string, context, lead int, info *replay.Recording) error {
	long, lengthened, example := 0, 0, -1
	for i := range list {
		r := &list[i]
		if !keep[i] {
			continue
		}
		if r.Input <= lead {
			r.Input = lead + 1
			r.Blocks = cut(r.Blocks, r.Input)
			lengthened++
		}
		if context == 0 || r.Input+r.Output <= context {
			continue
		}
		long++
		if example < 0 || r.Input+r.Output > list[example].Input+list[example].Output {
			example = i
		}
		if how != Clip {
			keep[i] = false
			continue
		}
		r.Output = min(r.Output, max(context/2, 1))
		r.Input = min(r.Input, context-r.Output)
		r.Blocks = cut(r.Blocks, r.Input)
	}
	if lengthened > 0 {
		info.Notes = append(info.Notes, fmt.Sprintf("%s lengthened to %d tokens, because the server puts %d of its own in front",
			count(lengthened, "prompt was", "prompts were"), lead+1, lead))
		info.Changed += lengthened
	}
	if long == 0 {
		return nil
	}
	r := &list[example]
	switch {
	case how == "":
		return fmt.Errorf("%s more than the server's context of %d tokens a slot (line %d: %d tokens in and %d out): give --fit-context drop or clip, or start the server with a larger --ctx-size",
			count(long, "record needs", "records need"), context, r.Line, r.Input, r.Output)
	case how == Drop:
		info.Dropped = long
		info.Notes = append(info.Notes, fmt.Sprintf("DROPPED: %s more than the context of %d tokens", count(long, "record needs", "records need"), context))
		if !slices.Contains(keep, true) {
			return fmt.Errorf("every record needs more than the server's context of %d tokens a slot: give --fit-context clip, or start the server with a larger --ctx-size", context)
		}
	default:
		info.Changed += long
		info.Notes = append(info.Notes, fmt.Sprintf("CLIPPED: %s more than the context of %d tokens", count(long, "record needs", "records need"), context))
	}
	return nil
}

// count is a number with the words that follow it.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// cut is the beginning of blocks with n tokens; the last is longer where there are too few.
func cut(blocks []Block, n int) []Block {
	if blocks == nil {
		return nil
	}
	var out []Block
	for _, b := range blocks {
		if n <= 0 {
			return out
		}
		b.Tokens = min(b.Tokens, uint32(n)) //nolint:gosec // not negative
		out = append(out, b)
		n -= int(b.Tokens)
	}
	if n > 0 && len(out) > 0 {
		out[len(out)-1].Tokens += uint32(n) //nolint:gosec // not negative
	}
	return out
}

// compact removes the records that are not kept. Offsets count from the first that is.
func compact(list []Record, keep []bool, info *replay.Recording) []Record {
	at := make([]int, len(list))
	out := list[:0]
	var origin time.Duration
	for i := range list {
		at[i] = -1
		if !keep[i] {
			continue
		}
		r := list[i]
		if len(out) == 0 {
			origin = r.Offset
		}
		r.Offset -= origin
		if r.Parent >= 0 {
			if r.Parent = at[r.Parent]; r.Parent < 0 {
				info.NotChild++
				r.ThinkUs.Valid = false
			}
		}
		at[i] = len(out)
		out = append(out, r)
	}
	return out
}

// giveBlocks gives records without blocks a block of their own, or their parent's where they continue it.
func giveBlocks(list []Record) {
	last := uint32(0)
	for i := range list {
		for _, b := range list[i].Blocks {
			last = max(last, b.ID)
		}
	}
	for i := range list {
		r := &list[i]
		if r.Blocks != nil {
			continue
		}
		last++
		id := last
		if r.Parent >= 0 {
			if p := &list[r.Parent]; r.Input >= p.Input+p.Output && len(p.Blocks) == 1 {
				id = p.Blocks[0].ID
			}
		}
		r.Blocks = []Block{{id, uint32(r.Input)}} //nolint:gosec // at most maxTokens
	}
}

// Repeats is how many tokens of its parent's reply r's prompt has behind p's prompt.
func (r *Record) Repeats(p *Record) int {
	if r.ReplyTokens.Valid {
		return int(min(r.ReplyTokens.V, int64(p.Output)))
	}
	return p.Output
}

// Continues reports whether r's prompt begins with p's prompt, where the last block of p may be cut short, and has room
// for p's reply.
func Continues(p, r *Record) bool {
	if r.Input < p.Input+r.Repeats(p) {
		return false
	}
	for i := range p.Blocks {
		last := i == len(p.Blocks)-1
		if last && len(p.Blocks) > 1 { // a block cut short has a name of its own in some traces
			return true
		}
		if i >= len(r.Blocks) || r.Blocks[i].ID != p.Blocks[i].ID {
			return false
		}
	}
	return true
}
