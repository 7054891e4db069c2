package meter

import "strings"

// Fill ends the exchange and sets the columns of rec that follow from the bytes and marks. clean reports whether the
// upstream's reply ended by its own framing. The caller sets Outcome, Status, identity and byte counts. Two exceptions:
// an error inside a stream sets Outcome and Error, and an empty User is set from the body where Identify allows it.
// DEFINITIONS.md has every formula.
func (m *Meter) Fill(rec *Record, marks Marks, clean bool) {
	rec.Dialect = m.dialect.name
	m.fillRequest(rec)
	if r := &m.reply; r.held > 0 { // nothing said that these were the server's
		r.dropNotices()
	}
	m.fillReply(rec, clean)
	m.fillCounts(rec, clean)
	m.details.PromptCut = m.promptCut(rec)
	m.fillTimes(rec, marks)
	m.fillPhases(rec, marks)
	m.fillUnread(rec)
	rec.Details = m.sharedDetails()
}

// sharedDetails returns the details, the last row's if they are the same.
func (m *Meter) sharedDetails() *Details {
	if m.details == (Details{}) {
		return nil
	}
	if m.lastDetails == nil || *m.lastDetails != m.details {
		d := m.details
		m.lastDetails = &d
	}
	return m.lastDetails
}

func (m *Meter) fillRequest(rec *Record) {
	q, d := &m.request, &m.details
	rec.Model = q.model.intern(&m.lastAsked)
	rec.MaxTokens, rec.Messages, rec.Tools = q.limit, q.msgs, q.tools
	if !rec.Messages.Valid && m.dialect.name == DialectResponses {
		rec.Messages = q.inputs
	}
	if m.dialect.generates && q.seen {
		rec.Stream = Some(q.stream.V)
	}
	if m.identify != nil {
		m.fillClient(rec)
	}
	d.RequestedModel = rec.Model
	d.Temperature, d.Seed, d.Completions, d.Prompts = q.temp, q.seed, q.n, q.prompts
	d.Inputs, d.Documents, d.Images, d.Audios = q.inputs, q.docs, nonZero(q.images), nonZero(q.audios)
	d.IncludeUsage, d.TimingsPerToken, d.ReturnProgress, d.CachePrompt = q.usage, q.perTok, q.progr, q.cache
	d.RequestedSlot = q.slot
	m.observations.RequestSkipped = q.off
}

// fillClient sets user and session where the head named none: from the body, or inferred from its messages.
func (m *Meter) fillClient(rec *Record) {
	if rec.User != "" && rec.Session != "" {
		return
	}
	user, session := m.request.who()
	if rec.User == "" {
		rec.User = m.identify.person(user)
	}
	if rec.Session == "" {
		rec.Session = m.identify.keep("session", session)
	}
	if rec.Session == "" && session == "" && m.dialect.generates && m.request.done {
		if rec.Session = m.identify.inferred(rec, &m.request.messages); rec.Session != "" {
			m.details.SessionSource = SessionInferred
		}
	}
}

func (m *Meter) fillReply(rec *Record, clean bool) {
	r, d, o := &m.reply, &m.details, &m.observations
	if len(r.model.b) > 0 {
		rec.Model = r.model.intern(&m.lastServed)
		if rec.Model == d.RequestedModel {
			d.RequestedModel = ""
		}
	}
	rec.FinishReason = r.finishes.intern(&m.lastFinish)
	if m.dialect.generates && m.status > 0 && m.status < 400 && r.streams.Valid {
		rec.Stream = r.streams
	}
	switch {
	case m.status >= 400:
		rec.Error = firstOf(rec.Error, m.identify.message(r.failure.String()))
	case r.failed:
		rec.Outcome = UpstreamError
		rec.Error = firstOf(m.identify.message(r.failure.String()), "the upstream sent an error without a message inside its reply")
	case r.off != "":
		rec.Error = firstOf(rec.Error, r.off)
	case clean && rec.Outcome == OK && m.dialect.generates && m.status == 200 && r.unread == "":
		if why := r.cut(); why != "" {
			rec.Outcome, rec.Error = Truncated, why
		}
	}
	d.Notices = nonZero(r.notices)
	d.ServerBuild, d.Slot = r.fingerprint.intern(&m.lastBuild), r.slot
	d.Results, d.Counted = r.results, r.counted
	if m.dialect.name == DialectTokenize {
		d.Tokens = r.tokens // native replies have a member of the same name
	}
	o.Progress = PrefillProgress{Done: r.progress.done, Total: r.progress.total, Cached: r.progress.cached, Events: r.progress.n}
	o.Events, d.BadEvents, d.Pings = r.events, nonZero(r.badEvents), nonZero(r.sse.pings)
	d.UncountedOutputs = nonZero(r.uncounted)
	o.Unfinished = r.mode == eventStream && r.sse.unfinished() || (r.mode == document || r.mode == lines) && !r.scan.idle()
	o.Finished = r.done
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// fillCounts sets each count from the best source that has it, and keeps all sources in Observations.
func (m *Meter) fillCounts(rec *Record, clean bool) {
	r, d, o := &m.reply, &m.details, &m.observations
	o.Usage, o.Timings, o.Native = r.tallies[usage].sum(), r.tallies[timings].sum(), r.tallies[native].sum()
	if names := disputedCounts(&o.Usage, &o.Timings, &o.Native); len(names) > 0 {
		d.Disputed = strings.Join(names, ",")
		d.Usage, d.Timings, d.Native = o.Usage.tokens(), o.Timings.tokens(), o.Native.tokens()
	}

	best := Counts{}
	for _, s := range []struct {
		name   string
		counts *Counts
	}{{TokensFromNative, &o.Native}, {TokensFromTimings, &o.Timings}, {TokensFromUsage, &o.Usage}} {
		best.overlay(s.counts) // the best source comes last and wins
		if s.counts.Output.Valid || s.counts.Prompt.Valid && !best.Output.Valid {
			rec.TokenSource = s.name
		}
	}
	if p := r.progress; p.total.Valid && !best.Prompt.Valid {
		best.Prompt, best.Cached = p.total, p.cached
	}
	rec.PromptTokens, rec.CachedTokens = best.Prompt, best.Cached
	rec.OutputTokens, rec.ReasoningTokens = best.Output, best.Reasoning
	rec.DraftTokens, rec.DraftAcceptedTokens = best.Draft, best.DraftAccepted
	m.dropPartialCounts(rec, clean)
	if r.inEvents() && m.dialect.generates {
		rec.OutputEvents = Some(r.time.events)
		if !rec.OutputTokens.Valid && r.time.events > 0 {
			rec.TokenSource = TokensFromEvents
			d.AtLeast = Some(max(r.time.events, d.AtLeast.V)) // an output takes a token or more
		}
	}
	for i := range r.tallies {
		if b := r.tallies[i].lowerBound(); b.Valid && !rec.OutputTokens.Valid {
			d.AtLeast = Some(max(b.V, d.AtLeast.V))
		}
	}
}

// dropPartialCounts drops counts that do not cover all completions of the exchange: those of a stream that was cut before
// all had ended, and those in llama-server's unstreamed replies to n > 1 or to several prompts, which cover only the first
// completion. Such a reply is recognised by timings that tell what its usage tells; other servers send none.
func (m *Meter) dropPartialCounts(rec *Record, clean bool) {
	q, r, d, o := &m.request, &m.reply, &m.details, &m.observations
	expected, covered := q.asks(), int64(0)
	if r.inEvents() {
		expected = max(expected, r.time.started())
		for i := range r.tallies {
			covered = max(covered, r.tallies[i].covers(expected))
		}
		if clean || r.done {
			return // a server may send the sum of all completions once
		}
	} else {
		expected, covered = max(expected, r.answers), r.tallies[timings].nFinals
		if !o.Timings.Output.Valid || o.Usage.Output.Valid && o.Usage.Output != o.Timings.Output {
			return // usage tells the sum
		}
	}
	if expected < 2 || covered >= expected {
		return
	}
	d.Covered = Some(covered)
	d.AtLeast = rec.OutputTokens // of one completion or some
	rec.PromptTokens, rec.CachedTokens, rec.OutputTokens = Int{}, Int{}, Int{}
	rec.ReasoningTokens, rec.DraftTokens, rec.DraftAcceptedTokens = Int{}, Int{}, Int{}
	rec.TokenSource = ""
}
