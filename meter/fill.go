package meter

// Fill ends the exchange and writes all that the bytes and marks tell into rec. clean says that the
// upstream ended its reply by its own framing. Outcome, Status, identity and byte counts are the
// caller's, except that an error inside a stream sets Outcome and Error, and that User is set from the
// body where it is empty and Identify allows it. DEFINITIONS.md has every formula.
func (m *Meter) Fill(rec *Record, marks Marks, clean bool) {
	rec.Dialect = m.dialect
	m.fillRequest(rec)
	m.fillReply(rec, clean)
	m.fillCounts(rec, clean)
	m.fillTimes(rec, marks)
	m.fillPhases(rec, marks)
	if m.dialect != "" {
		var room [512]byte
		if b := m.facts.details(room[:0]); string(b) != m.lastDetails {
			m.lastDetails = string(b)
		}
		rec.Details = m.lastDetails
	}
}

func (m *Meter) fillRequest(rec *Record) {
	q, f := &m.request, &m.facts
	rec.Model = q.model.again(&m.lastAsked)
	rec.MaxTokens, rec.Messages, rec.Tools = q.limit, q.msgs, q.tools
	if !rec.Messages.Valid && m.dialect == DialectResponses {
		rec.Messages = q.inputs
	}
	if generates(m.dialect) && q.seen {
		rec.Stream = Some(q.stream.V)
	}
	if rec.User == "" && m.identify != nil {
		rec.User = m.identify.person(q.person())
	}
	f.RequestedModel = rec.Model
	f.Temperature, f.Seed, f.Completions, f.Prompts = q.temp, q.seed, q.n, q.prompts
	f.Inputs, f.Documents, f.Images, f.Audios = q.inputs, q.docs, q.images, q.audios
	f.IncludeUsage, f.TimingsPerToken, f.ReturnProgress, f.CachePrompt = q.usage, q.perTok, q.progr, q.cache
	f.AskedSlot = q.slot
	f.RequestOff = q.off
}

func (m *Meter) fillReply(rec *Record, clean bool) {
	r, f := &m.reply, &m.facts
	if len(r.model.b) > 0 {
		rec.Model = r.model.again(&m.lastServed)
		f.ServedModel = rec.Model
	}
	rec.FinishReason = r.finishes.again(&m.lastFinish)
	if generates(m.dialect) && m.status > 0 && m.status < 400 && r.mode != notMetered {
		rec.Stream = Int{Valid: true}
		if r.mode == eventStream {
			rec.Stream.V = 1
		}
	}
	switch {
	case m.status >= 400:
		rec.Error = firstOf(rec.Error, r.failure.String())
	case r.failed:
		rec.Outcome = UpstreamError
		rec.Error = firstOf(r.failure.String(), "the upstream sent an error without a message inside its reply")
	case r.off != "":
		rec.Error = firstOf(rec.Error, r.off)
	}
	f.Fingerprint, f.SlotID = r.fingerprint.again(&m.lastBuild), r.slot
	f.Results, f.Counted = r.results, r.counted
	if m.dialect == DialectTokenize {
		f.Tokens = r.tokens // native replies have a member of the same name
	}
	f.Progress = Progression{Done: r.progress.done, Total: r.progress.total, Cached: r.progress.cached, Events: r.progress.n}
	f.Events, f.BadEvents, f.Pings = r.events, r.badEvents, r.sse.pings
	f.Unfinished = r.mode == eventStream && r.sse.unfinished() || r.mode == document && !r.scan.idle()
	f.Finished, f.Clean = r.done, clean
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// fillCounts chooses among the sources, best first, and keeps them all.
func (m *Meter) fillCounts(rec *Record, clean bool) {
	r, f := &m.reply, &m.facts
	f.Usage = r.usage.sum()
	f.Timings = r.timings.sum()
	f.Native = r.native.sum()
	f.Disagree = len(f.disputed()) > 0

	best := Counts{}
	for _, s := range []struct {
		name   string
		counts *Counts
	}{{TokensFromNative, &f.Native}, {TokensFromTimings, &f.Timings}, {TokensFromUsage, &f.Usage}} {
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
	m.onlySome(rec, clean)
	if r.mode == eventStream && generates(m.dialect) {
		rec.OutputEvents = Some(r.time.events)
		if !rec.OutputTokens.Valid && r.time.events > 0 {
			rec.TokenSource = TokensFromEvents
		}
	}
	for _, t := range []*tally{&r.native, &r.timings, &r.usage} {
		if b := t.lowerBound(); b.Valid && !rec.OutputTokens.Valid {
			f.AtLeast = Some(max(b.V, f.AtLeast.V))
		}
	}
}

// onlySome drops counts that do not cover all completions of the exchange: those of a stream that was cut
// before all had ended, and those that llama-server tells in unstreamed replies to n > 1 and to several
// prompts, which are the first one's (its timings betray it; others send no timings).
func (m *Meter) onlySome(rec *Record, clean bool) {
	q, r, f := &m.request, &m.reply, &m.facts
	expected := q.asks()
	told := r.timings.completions()
	if r.mode == eventStream {
		expected = max(expected, r.time.started())
		told = max(told, r.usage.completions(), r.native.completions())
		if clean || r.done {
			return // a server may tell all completions' sum once
		}
	} else if expected = max(expected, r.answers); !f.Timings.Output.Valid {
		return // whoever sends no timings tells the sum
	}
	if expected < 2 || told >= expected {
		return
	}
	f.Covered = Some(told)
	if r.mode == eventStream {
		f.AtLeast = rec.OutputTokens
	}
	rec.PromptTokens, rec.CachedTokens, rec.OutputTokens = Int{}, Int{}, Int{}
	rec.ReasoningTokens, rec.DraftTokens, rec.DraftAcceptedTokens = Int{}, Int{}, Int{}
	rec.TokenSource = ""
}
