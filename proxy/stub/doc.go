// Package stub is an upstream shaped like llama-server whose every latency is known beforehand: for
// tests of exact times, for benchmarks that must not wait on a model, and for faults that a real server
// does not have on demand.
//
//	srv := stub.New(stub.Config{FirstToken: 700 * time.Millisecond, TokenGap: 20 * time.Millisecond})
//	go srv.Serve(ln) // any net.Listener, an in-memory one in a testing/synctest bubble too
//	defer srv.Close()
//
// It speaks llama-server's routes /health, /v1/models, /props, /slots, /tokenize, /apply-template,
// /completion, /v1/completions and /v1/chat/completions with the replies of build b11669: a stream's head
// when a slot starts, comment pings while the prompt is "processed", the role-only event in the same
// chunk as the first token's, one chunk a write, the last chunk and its CRLF in two more writes,
// timings that say what it did, keep-alive of 5 s or 100 requests, a close after status 400 and above
// and behind every stream.
// A client that leaves mid-decode frees its slot at once, one that leaves during prefill or awaits an
// unstreamed reply does not, as with the real server.
//
// The text is words drawn from a seed and the request's body: the same request gets the same tokens
// with the same gaps. What a server does with one request can be read while it happens and afterwards
// ([Server.Exchanges], [Server.Await]): what was written when, and when the peer closed.
//
// A request may ask for a fault in its header, X-Stub-Fault; see [ParseFault].
package stub
