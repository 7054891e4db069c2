// Package stub is an upstream that behaves like llama-server with configured latencies and faults, for tests
// and benchmarks.
//
//	srv := stub.New(stub.Config{FirstToken: 700 * time.Millisecond, TokenGap: 20 * time.Millisecond})
//	go srv.Serve(ln) // any net.Listener, also an in-memory one in a testing/synctest bubble
//	defer srv.Close()
//
// It answers /health, /v1/models, /props, /slots, /tokenize, /apply-template, /completion, /v1/completions
// and /v1/chat/completions as build b11669 does: a stream's head comes when a slot starts, then comment lines
// until the first token, the role-only event in the first token's chunk, one chunk a write, the last chunk
// and its CRLF in two writes, and timings that were measured. Connections are kept for 5 s or 100 requests,
// and closed after a stream and after status 400 and above. A client that leaves while tokens are written
// frees its slot at once. One that leaves during prefill, or waits for an unstreamed reply, does not.
//
// The text is drawn from a seed and the request's body, so the same request gets the same tokens with the
// same gaps. Tests read what happened to a request with [Server.Exchanges] and [Server.Await].
//
// The header X-Stub-Fault asks for a fault; see [ParseFault].
package stub
