package twin

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"wattline/meter"
	"wattline/meter/prompt"
	"wattline/replay"
	"wattline/replay/trace"
)

// Exporter makes a trace of stored rows and of the fingerprints of their prompts.
type Exporter struct {
	Upstream string   // only rows of this server; "": of any, which must be one
	Models   []string // only rows of these models, which are names of one; empty: of any, which must be one
	MadeBy   string

	tree     *tree
	list     []exported
	settings map[uint64]int32  // by settings: where prompts with them begin
	ends     map[int32][]int32 // by place: the requests whose prompts end there
	placed   map[string]int32  // by the id of a row: where its prompt ends
	sessions map[string]int
	turns    []int // by session
	leftOut  map[string]int
	servers  map[string]int  // upstream and model of answered requests
	left     map[string]int  // of cancelled ones: the model is the one that was asked for, if no reply had named another
	asked    map[string]bool // upstream and model that was asked for, where an answer named another
	configs  map[string]int
	sim      int // requests whose joules are a simulated device's
}

// exported is a request of the trace.
type exported struct {
	trace.Record
	started, ended time.Time
	end            int32 // of its prompt; root: not known
	reply          int32 // first place behind its parent's prompt; that of a reply, unless that was empty
	told           int32 // place up to which the server told the tokens by what it reused; root: none
}

// Why a row is not in a trace.
const (
	otherServer = "of another server or model"
	noText      = "no text was to be generated"
	failed      = "failed"
	noLength    = "the length of the prompt is not known"
)

// Errors of what is seen, in tokens: of a prompt's end, and of the place up to which it was reused.
const (
	endError  = 0.5
	toldError = 2
)

// Add adds a row, and the fingerprint that was kept of its prompt, or nil. Rows come in the order in which they started.
func (x *Exporter) Add(rec *meter.Record, fingerprint []byte) {
	if x.tree == nil {
		x.tree, x.ends = newTree(), map[int32][]int32{}
		x.settings, x.placed, x.left, x.asked = map[uint64]int32{}, map[string]int32{}, map[string]int{}, map[string]bool{}
		x.sessions, x.leftOut, x.servers, x.configs = map[string]int{}, map[string]int{}, map[string]int{}, map[string]int{}
	}
	if why := x.unfit(rec); why != "" {
		x.leftOut[why]++
		return
	}
	f := fingerprintOf(rec, fingerprint)
	if f == nil && !rec.PromptTokens.Valid {
		x.leftOut[noLength]++
		return
	}
	e := exported{started: rec.StartedAt, ended: rec.StartedAt.Add(time.Duration(rec.DurationUs.V) * time.Microsecond)}
	e.Parent = -1
	e.Input, e.Output = int(rec.PromptTokens.V), sentOutput(rec)
	e.Unstreamed, e.Tools, e.Observed = rec.Stream == meter.Some(0), rec.Tools, observed(rec)
	if rec.Outcome == meter.Cancelled {
		e.CancelUs = rec.DurationUs
	}
	x.from(rec)
	if strings.HasPrefix(rec.EnergySource, "sim/") {
		x.sim++
	}
	if rec.ConfigID != "" {
		x.configs[rec.ConfigID]++
	}
	if f != nil {
		x.place(&e, f, rec)
	}
	x.session(&e, rec)
	if len(x.list) > 0 {
		e.Offset = e.started.Sub(x.list[0].started)
	}
	x.list = append(x.list, e)
}

// from notes the server and model of a row.
func (x *Exporter) from(rec *meter.Record) {
	model := rec.Model
	if len(x.Models) > 0 {
		model = ""
	}
	if rec.Outcome == meter.Cancelled {
		x.left[rec.Upstream+" "+model]++
		return
	}
	x.servers[rec.Upstream+" "+model]++
	if d := rec.Details; d != nil && d.RequestedModel != "" {
		x.asked[rec.Upstream+" "+d.RequestedModel] = true
	}
}

// sources are the servers and models of all rows. A cancelled one may have another name of its model.
func (x *Exporter) sources() map[string]int {
	all := maps.Clone(x.servers)
	for k, n := range x.left {
		if all[k] > 0 || !x.asked[k] {
			all[k] += n
		}
	}
	return all
}

func (x *Exporter) unfit(rec *meter.Record) string {
	operation := meter.Operation(rec.Dialect)
	switch {
	case x.Upstream != "" && rec.Upstream != x.Upstream, len(x.Models) > 0 && !slices.Contains(x.Models, rec.Model):
		return otherServer
	case operation != "chat" && operation != "text_completion":
		return noText
	case rec.Outcome != meter.OK && rec.Outcome != meter.Cancelled:
		return failed
	}
	return ""
}

// fingerprintOf reads a stored fingerprint; nil where it does not tell the places of a prompt.
func fingerprintOf(rec *meter.Record, stored []byte) *prompt.Fingerprint {
	if stored == nil {
		return nil
	}
	p, err := prompt.Decode(stored)
	if err != nil || len(p.Parts) == 0 || p.Several || p.Previous {
		return nil
	}
	if d := rec.Details; d != nil && (d.Completions.V > 1 || d.Prompts.V > 1) {
		return nil
	}
	return &p.Fingerprint
}

// More that a cancelled request may generate than twice what had come: its client leaves before.
const moreOutput = 64

// sentOutput is the length of the reply that a twin asks for, 1 or more.
func sentOutput(rec *meter.Record) int {
	n := outputOf(rec)
	if rec.Outcome != meter.Cancelled {
		return max(n, 1)
	}
	n = 2*n + moreOutput
	if rec.MaxTokens.V > 0 {
		n = min(n, int(rec.MaxTokens.V))
	}
	return n
}

// outputOf is the length of a reply. Of a cancelled one it is what had come.
func outputOf(rec *meter.Record) int {
	n := rec.OutputTokens
	if !n.Valid {
		n = rec.OutputEvents
		if rec.Details != nil && rec.Details.AtLeast.V > n.V {
			n = rec.Details.AtLeast
		}
	}
	return int(n.V)
}

// observed is what a row measured.
func observed(rec *meter.Record) *trace.Observed {
	o := &trace.Observed{
		CachedTokens: rec.CachedTokens, ReasoningTokens: rec.ReasoningTokens, QueueUs: rec.QueueUs, TTFTUs: rec.TTFTUs,
		PrefillUs: rec.PrefillUs, DecodeUs: rec.DecodeUs, DurationUs: rec.DurationUs,
	}
	if rec.EnergyQuality != meter.EnergyPending {
		o.GPUUj, o.GPUActiveUj, o.GPUSigmaUj, o.EnergyQuality = rec.EnergyUj(), rec.GPUActiveUj, rec.EnergySigmaUj(), rec.EnergyQuality
	}
	return o
}

// place finds what a prompt shares with earlier ones, and the request that it continues.
func (x *Exporter) place(e *exported, f *prompt.Fingerprint, rec *meter.Record) {
	end, shared := x.tree.add(x.beginning(f, rec), f)
	e.end = end
	if rec.PromptTokens.Valid {
		x.tree.see(end, float64(rec.PromptTokens.V), endError)
	}
	if x.ends[shared] == nil && x.tells(rec, shared) {
		e.told = shared
	}
	for n := end; n > root && e.Parent < 0; n = x.tree.nodes[n].parent {
		e.Parent, e.reply = x.continued(x.tree.nodes[n].parent, e.started, x.sessions[rec.Session]), n
	}
	x.ends[end] = append(x.ends[end], int32(len(x.list)))
	if rec.ID != "" {
		x.placed[rec.ID] = end
	}
	if e.Parent >= 0 {
		e.ThinkUs = meter.Some(e.started.Sub(x.list[e.Parent].ended).Microseconds())
	}
}

// tells reports whether a row's cached tokens are those up to the place that its prompt shares with earlier ones: the server
// reused what matched of a prompt that goes through this place. Of one from before the span it may have reused more.
func (x *Exporter) tells(rec *meter.Record, shared int32) bool {
	if rec.CacheVerdict != "hit" && rec.CacheVerdict != "client" || rec.CachedTokens.V <= 0 || rec.Details == nil || x.tree.nodes[shared].weight == 0 {
		return false
	}
	end, ok := x.placed[rec.Details.CachePredecessor]
	return ok && x.tree.before(shared, end)
}

// beginning is where a prompt with its template's settings begins. Most settings change nothing in a prompt (tool_choice). Those
// with which reuse was lost, as the row tells, make a beginning of their own.
func (x *Exporter) beginning(f *prompt.Fingerprint, rec *meter.Record) int32 {
	if f.Parts[0].Kind != prompt.Settings {
		return root
	}
	sum := f.Parts[0].Sum
	at, ok := x.settings[sum]
	if !ok {
		if rec.CacheCause == "settings_changed" {
			at = x.tree.branch()
		}
		x.settings[sum] = at
	}
	return at
}

// continued is the latest request whose prompt ends at a place and that had been answered at a time, of a session (0: of any) if
// it has one there; -1 if there is none.
func (x *Exporter) continued(n int32, at time.Time, session int) int {
	latest := -1
	for _, i := range slices.Backward(x.ends[n]) {
		e := &x.list[i]
		if e.ended.After(at) {
			continue
		}
		if session == 0 || e.Session == session {
			return int(i)
		}
		if latest < 0 {
			latest = int(i)
		}
	}
	return latest
}

// session numbers the sessions, and the turns of each. Hashes of sessions stay here.
func (x *Exporter) session(e *exported, rec *meter.Record) {
	switch {
	case rec.Session != "":
		n, ok := x.sessions[rec.Session]
		if !ok {
			x.turns = append(x.turns, 0)
			n = len(x.turns)
			x.sessions[rec.Session] = n
		}
		e.Session = n
	case e.Parent >= 0:
		e.Session = x.list[e.Parent].Session
	}
	if e.Session == 0 {
		x.turns = append(x.turns, 0)
		e.Session = len(x.turns)
	}
	x.turns[e.Session-1]++
	e.Turn = x.turns[e.Session-1]
}

// Trace makes the trace. Recorded are facts of the server, by name.
func (x *Exporter) Trace(recorded map[string]string) (*trace.Trace, trace.Manifest, error) {
	if len(x.list) == 0 {
		return nil, trace.Manifest{}, fmt.Errorf("no row of this time can be replayed%s", x.whyNot())
	}
	if from := x.sources(); len(from) > 1 {
		return nil, trace.Manifest{}, fmt.Errorf("the rows are of several servers or models (%s): choose with --upstream and --model", counts(from))
	}
	misses := x.misses()
	for i := range x.list {
		if e := &x.list[i]; e.told > root {
			x.tree.see(e.told, float64(e.Observed.CachedTokens.V), toldError)
		}
	}
	ratio := x.tree.fit()
	t := &trace.Trace{Format: "wattline", BlockTokens: max(int(math.Round(ratio*prompt.Block)), 1), Records: make([]trace.Record, len(x.list))}
	cut := x.cutter()
	known, estimated := 0, 0
	repeats := map[answered]meter.Int{}
	for i := range x.list {
		e := &x.list[i]
		if e.end > root {
			known++
			if e.Input == 0 {
				e.Input = max(int(math.Round(x.tree.nodes[e.end].tokens)), 1)
				estimated++
			}
			e.Blocks = cut.blocks(e.end, e.Input)
			e.ReplyTokens = x.repeated(e, repeats)
		}
		t.Records[i] = e.Record
	}
	return t, trace.Manifest{
		MadeBy: x.MadeBy, LeftOut: x.leftOut, Recorded: recorded,
		Contains: x.contains(t.BlockTokens, known, estimated, misses), Omits: omits(),
	}, nil
}

func (x *Exporter) whyNot() string {
	if len(x.leftOut) == 0 {
		return ": there is none; `wattline requests` shows what the store has"
	}
	return fmt.Sprintf(": %s", counts(x.leftOut))
}

func counts(m map[string]int) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s: %d", strings.TrimSpace(k), m[k]))
	}
	return strings.Join(parts, ", ")
}

// config is the configuration that most requests ran on, and how many there were.
func (x *Exporter) config() (id string, configs int) {
	for _, k := range slices.Sorted(maps.Keys(x.configs)) {
		if id == "" || x.configs[k] > x.configs[id] {
			id = k
		}
	}
	return id, len(x.configs)
}

// misses are by how many tokens the estimate of a shared beginning is off, where the server tells it, without its word.
func (x *Exporter) misses() (out []float64) {
	x.tree.fit()
	for i := range x.list {
		if e := &x.list[i]; e.told > root {
			out = append(out, math.Abs(x.tree.nodes[e.told].tokens-float64(e.Observed.CachedTokens.V)))
		}
	}
	return out
}

// answered is a request and the place where its reply begins in later prompts.
type answered struct {
	parent int
	reply  int32
}

// repeated is how many tokens of its parent's reply a prompt repeats unchanged: what the server reused behind the parent's
// prompt, for the first prompt that has this reply. Where the server had lost the prompt it is not known.
func (x *Exporter) repeated(e *exported, known map[answered]meter.Int) meter.Int {
	if e.Parent < 0 {
		return meter.Int{}
	}
	if !x.tree.nodes[e.reply].reply {
		return meter.Some(0)
	}
	at := answered{e.Parent, e.reply}
	p := &x.list[e.Parent]
	more := int(e.Observed.CachedTokens.V) - p.Input
	// The server computes the last token of a prompt again.
	if !known[at].Valid && e.Observed.CachedTokens.Valid && more >= -1 {
		known[at] = meter.Some(int64(min(max(more, 0), p.Output)))
	}
	return known[at]
}

func (x *Exporter) contains(block, known, estimated int, misses []float64) []string {
	out := []string{
		"for each request: when it came, its session and turn, the request that it continues and the time between, its tokens in and out, " +
			"whether it was streamed, how many tools it had, when its client left, and what was measured (cached tokens, times, joules)",
		fmt.Sprintf("blocks: numbers from 1, by first appearance; equal numbers are equal beginnings. %d of %d prompts have them, the others have their length alone and share nothing", known, len(x.list)),
		fmt.Sprintf("a place inside a prompt is known to %d bytes, about %d tokens; its tokens are estimated from bytes, between the counts that the server gave", prompt.Block, block),
	}
	if len(misses) > 0 {
		out = append(out, fmt.Sprintf("the error of such an estimate, at the %d places where the server told the tokens: median %.0f, 90 %% at most %.0f; at these places its word is used",
			len(misses), replay.Median(misses).V, replay.NearestRank(misses, 0.9).V))
	}
	if estimated > 0 {
		out = append(out, fmt.Sprintf("%d prompts of cancelled requests have an estimated length", estimated))
	}
	if x.sim > 0 {
		out = append(out, fmt.Sprintf("the joules of %d requests are SIMULATED: none of them was measured", x.sim))
	}
	if _, n := x.config(); n > 1 {
		out = append(out, fmt.Sprintf("the server's configuration changed in this time: there were %d; the facts are of the one with the most requests", n))
	}
	return out
}

func omits() []string {
	return []string{
		"texts of prompts, replies and tools", "hashes of prompts, and the key of them", "names: of models, files, users, agents, clients, sessions, hosts, labels",
		"addresses, API keys, ids of requests", "the date: times count from the first request",
	}
}
