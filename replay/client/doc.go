// Package client is replay's instrument: it asks a llama-server about itself, counts tokens with the
// server's own tokenizer, and sends one streamed chat request, noting when what arrived.
//
// The clock is read when bytes have been read and before anything else is done with them; the reply is
// taken apart after its end. So a slow parser or a long line cannot delay the time of an event, and of
// the events of one read all have that read's time. It shares no code with package meter or proxy and
// uses net/http on purpose: two instruments in one request, and they must agree.
package client
