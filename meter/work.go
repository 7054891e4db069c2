package meter

// Work is what a request asks of the server, as far as its head and body have been seen.
type Work struct {
	Dialect   string // "" where the path is not metered
	Streams   bool   // the reply will be a stream of events
	Computes  bool   // the model runs for it
	Slot      Int    // the slot that the request asks for (id_slot); llama-server lets it wait for just that one
	MaxTokens Int    // what the client allows to generate; null where it does not say
	Several   bool   // it asks for several completions (n, several prompts): the server takes a slot for each
}

// Work returns it. It is called by the goroutine that shows the request's body.
func (m *Meter) Work() Work {
	return Work{
		Dialect: m.dialect.name, Computes: m.dialect.computes,
		Streams: m.request.stream.Valid && m.request.stream.V == 1, Slot: m.request.slot, MaxTokens: m.request.limit,
		Several: m.request.asks() > 1,
	}
}
