package meter

// Work is what a request asks of the server, as far as its head and body have been seen.
type Work struct {
	Dialect string // "" where the path is not metered
	Streams bool   // the reply will be a stream of events
}

// Work returns it. It is called by the goroutine that shows the request's body.
func (m *Meter) Work() Work {
	return Work{Dialect: m.dialect, Streams: m.request.stream.Valid && m.request.stream.V == 1}
}
