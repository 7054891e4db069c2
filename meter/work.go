package meter

// Work is the work that a request asks of the server, as far as it has been read.
type Work struct {
	Dialect   string // "" where the path is not metered
	Streams   bool   // the reply will be a stream of events
	Computes  bool   // the model runs for it
	Slot      Int    // the requested slot (id_slot); llama-server makes the request wait for it
	MaxTokens Int    // the client's limit of output tokens; null where it set none
	Several   bool   // it asks for several completions (n, several prompts): the server takes a slot for each
	Model     string // that it names; "" where it names none
}

// WorkByReply is what a reply's head says of the work, where the request's body has not been read. It is valid after
// BeginReply.
func (m *Meter) WorkByReply() Work {
	return Work{Dialect: m.dialect.name, Computes: m.dialect.computes, Streams: m.reply.streams == Some(1)}
}

// Work returns the work asked for so far. It is called by the goroutine that calls RequestBody.
func (m *Meter) Work() Work {
	return Work{
		Dialect: m.dialect.name, Computes: m.dialect.computes,
		Streams: m.request.stream.Valid && m.request.stream.V == 1, Slot: m.request.slot, MaxTokens: m.request.limit,
		Several: m.request.asks() > 1, Model: m.request.model.intern(&m.lastAsked),
	}
}
