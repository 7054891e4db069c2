package meter

import "math"

// fillTimes sets the columns that follow from marks alone.
func (m *Meter) fillTimes(rec *Record, k Marks) {
	t, d, o := &m.reply.time, &m.details, &m.observations
	rec.TTFBUs = between(k.P0, k.H)
	rec.DurationUs = between(k.P0, k.E)
	if k.H != 0 && !rec.WriteBlockedUs.Valid { // the relay's own value also covers the head's flush
		rec.WriteBlockedUs = Some(m.reply.blockedNs / 1e3)
	}
	d.OutputReads, d.MaxOutputsPerRead, o.Started = nonZero(t.reads), nonZero(t.maxInRead), t.started()
	o.Stamps = sincePass(t.stamps, k.P0)
	if o.Started == 1 {
		rec.GapsUs = gapsOf(o.Stamps, t.keep)
		if t.keep > 0 {
			d.GapsCut = nonZero(t.events - 1 - int64(len(rec.GapsUs)))
		}
	}
	d.UntrackedOutputs = nonZero(t.untracked)
	if t.events == 0 {
		return
	}
	rec.TTFTUs = between(k.P0, t.firstOut)
	rec.UpstreamTTFTUs = between(k.P1, t.first)
	rec.TTFOUs = between(k.P0, t.answer)
	o.FirstNs, o.LastNs, o.LastWrittenNs = since(k.P0, t.first), since(k.P0, t.last), since(k.P0, t.lastOut)
	if k.P1 != 0 && k.P0 != 0 {
		rec.ProxyOverheadUs = Some((k.P1 - max(k.P0, k.R) + t.firstOut - t.first) / 1e3)
	}
	if g := m.Gaps(); g != nil {
		p50 := g.Quantile(0.5)
		rec.ITLP50Us, rec.ITLP90Us, rec.ITLP99Us = micros(p50), micros(g.Quantile(0.9)), micros(g.Quantile(0.99))
		rec.ITLMaxUs = Some(g.Max() / 1e3)
		rec.Stalls = Some(t.stalls(p50.V))
	}
}

// fillPhases divides the time at the upstream into queue, prefill and decode.
func (m *Meter) fillPhases(rec *Record, k Marks) {
	if !m.dialect.generates || m.dialect.name == DialectResume || m.status >= 400 {
		return // a resumed stream's phases were its first request's
	}
	d, o, t := &m.details, &m.observations, &m.reply.time
	promptUs, predictedUs := o.Timings.PromptUs, o.Timings.PredictedUs
	if !promptUs.Valid && !predictedUs.Valid { // Ollama's
		promptUs, predictedUs = o.Native.PromptUs, o.Native.PredictedUs
	}
	if d.Covered.Valid {
		promptUs, predictedUs = Int{}, Int{}
	}
	m.disputeMarks(k, promptUs, predictedUs)
	rec.LoadUs = m.reply.loadUs
	if m.reply.notices > 0 {
		rec.LoadUs = between(k.P1, m.reply.noticeAt)
	}
	if promptUs.Valid {
		rec.PrefillUs, d.PrefillSource = promptUs, SourceServer
	} else if p := m.reply.progress; p.us.Valid && p.done.V == p.total.V {
		rec.PrefillUs, d.PrefillSource = p.us, SourceProgress
	}
	var start int64
	if m.reply.inEvents() {
		start = m.streamStart(k, promptUs)
		if t.events > 0 {
			rec.DecodeUs, d.DecodeSource = between(t.first, t.last), SourceMarks
		}
	} else if promptUs.Valid && predictedUs.Valid && k.E != 0 {
		start = k.E - 1e3*(promptUs.V+predictedUs.V)
		d.QueueSource = SourceServer
		rec.DecodeUs, d.DecodeSource = predictedUs, SourceServer
	}
	if start == 0 || k.P1 == 0 {
		d.QueueSource = ""
		return
	}
	o.SlotStartNs = since(k.P0, start)
	if !rec.PrefillUs.Valid && t.events > 0 {
		rec.PrefillUs, d.PrefillSource = between(start, t.first), SourceMarks
	}
	if !rec.LoadUs.Valid {
		rec.LoadUs = m.loads.load(&m.request.model, k.P1, start)
	}
	if rec.QueueUs = between(k.P1, start); !rec.QueueUs.Valid {
		d.NegativeQueue, d.QueueSource = Some(1), ""
	}
	if rec.QueueUs.Valid && rec.LoadUs.Valid {
		rec.QueueUs.V = max(0, rec.QueueUs.V-rec.LoadUs.V)
	}
}

// disputeMarks holds T1 and Tn of one completion against the server's own times. T1 is disputed where it lies before the
// prompt can have been processed, or so late that Tn - T1 is shorter than the server generated: output was withheld, which
// parsers of tool calls do and which disputes nothing then. Tn is disputed where Tn - T1 is longer, time in which the
// client did not read left out.
func (m *Meter) disputeMarks(k Marks, promptUs, predictedUs Int) {
	r, d := &m.reply, &m.details
	t := &r.time
	if !r.inEvents() || t.started() != 1 || m.request.asks() > 1 || !promptUs.Valid || !predictedUs.Valid {
		return
	}
	decodeUs := (t.last - t.first) / 1e3
	room := max(marksRoomUs, predictedUs.V/4)
	early := k.P0 != 0 && (t.first-k.P0)/1e3 < promptUs.V-max(marksRoomUs, promptUs.V/4)
	late := !r.tools && decodeUs < predictedUs.V-room
	switch long := decodeUs > predictedUs.V+room+r.blockedNs/1e3; {
	case (early || late) && long:
		d.DisputedMarks = "first,last"
	case early || late:
		d.DisputedMarks = "first"
	case long:
		d.DisputedMarks = "last"
	default:
		return
	}
	d.ServerDecodeUs = predictedUs
}

// marksRoomUs is how far T1 and Tn may lie from the server's times without a word: machines stall.
const marksRoomUs = 250e3

// streamStart returns S of a stream, 0 if it is unknown. A head later than T1 − prompt_ms by more than the tolerance cannot
// be the slot's start. An earlier one may be, since a parser that withholds the first tokens moves T1; then the recent
// streams of the same upstream decide.
func (m *Meter) streamStart(k Marks, promptUs Int) int64 {
	t, d := &m.reply.time, &m.details
	single := t.started() == 1
	trusted, known := m.slots.verdict()
	if t.events == 0 || !promptUs.Valid || !single {
		if m.reply.notices > 0 {
			return 0
		}
		if trusted || !known && m.reply.llama {
			d.QueueSource = SourceHead
			return k.H
		}
		return 0
	}
	start := t.first - 1e3*promptUs.V
	if m.reply.notices > 0 { // a gateway sent the head
		d.QueueSource = SourceServer
		return start
	}
	if m.slots != nil && !m.reply.tools && d.DisputedMarks == "" && promptUs.V*1e3 > 2*slotToleranceNs {
		m.slots.witness(k.H, start)
		trusted, known = m.slots.verdict()
	}
	if near(k.H, start) && (trusted || !known) || k.H < start && trusted {
		d.QueueSource = SourceHead
		return k.H
	}
	d.QueueSource = SourceServer
	return start
}

// between returns a span in microseconds, null where either end is missing or the span would be negative.
func between(from, to int64) Int {
	if from == 0 || to == 0 || to < from {
		return Int{}
	}
	return Some((to - from) / 1e3)
}

func since(from, to int64) Int {
	if from == 0 || to == 0 {
		return Int{}
	}
	return Some(to - from)
}

func micros(ns Int) Int {
	ns.V /= 1e3
	return ns
}

// gapsOf returns the gaps between the outputs of one completion, at most limit; nil for fewer than two outputs.
// Outputs that came in one read are 0 apart.
func gapsOf(stamps []Stamp, limit int) []uint32 {
	n := -1
	for _, s := range stamps {
		n += s.Outputs
	}
	if n = min(n, limit); n < 1 {
		return nil
	}
	gaps := make([]uint32, 0, n)
	for i, s := range stamps {
		if i > 0 && len(gaps) < n {
			gaps = append(gaps, uint32(min(max(0, (s.AtNs-stamps[i-1].AtNs)/1e3), math.MaxUint32)))
		}
		gaps = gaps[:min(n, len(gaps)+s.Outputs-1)] // zeros
	}
	return gaps
}

// sincePass makes the stamps relative to P0.
func sincePass(stamps []Stamp, p0 int64) []Stamp {
	for i := range stamps {
		stamps[i].AtNs -= p0
	}
	return stamps
}
