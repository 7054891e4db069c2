package meter

// Span is a phase of a request on the time since P0.
type Span struct {
	Name    string // load, queue, prefill or decode
	Formula string
	Length  Int // us, as the row has it
	From    Int // us since P0; null where that is not known
}

// To is the span's end, in us since P0; null where that is not known.
func (s Span) To() Int { return Int{V: s.From.V + s.Length.V, Valid: s.From.Valid && s.Length.Valid} }

// Spans places the request's phases. The row has durations, from which the marks are computed: P1 = ttft - upstream_ttft,
// S = P1 + load + queue, T1 = ttft; for a request that was not streamed, S = duration - decode - prefill. A load is left out
// where there was none. A place can be off by the time of the first flush.
func (r *Record) Spans() []Span {
	load := Span{Name: "load", Formula: "as told", Length: r.LoadUs}
	queue := Span{Name: "queue", Formula: "S - P1", Length: r.QueueUs}
	if load.Length.Valid {
		queue.Formula = "S - P1 - load"
	}
	prefill := Span{Name: "prefill", Formula: "server's prompt_ms", Length: r.PrefillUs}
	decode := Span{Name: "decode", Formula: "Tn - T1", Length: r.DecodeUs}
	if r.Stream.Valid && r.Stream.V == 0 {
		decode.Formula = "server's predicted_ms"
		decode.endAt(r.DurationUs)
		prefill.endAt(decode.From)
		queue.endAt(prefill.From)
		load.endAt(queue.From)
	} else {
		sent := Int{V: r.TTFTUs.V - r.UpstreamTTFTUs.V, Valid: r.TTFTUs.Valid && r.UpstreamTTFTUs.Valid}
		load.beginAt(sent)
		sent.V += r.LoadUs.V
		queue.beginAt(sent)
		prefill.beginAt(queue.To())
		decode.beginAt(r.TTFTUs)
	}
	if !load.Length.Valid {
		return []Span{queue, prefill, decode}
	}
	return []Span{load, queue, prefill, decode}
}

func (s *Span) beginAt(at Int) { s.From = Int{V: at.V, Valid: at.Valid && s.Length.Valid} }

func (s *Span) endAt(at Int) { s.From = Int{V: at.V - s.Length.V, Valid: at.Valid && s.Length.Valid} }
