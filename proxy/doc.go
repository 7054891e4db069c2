// Package proxy is the data path: it accepts a client's connection, forwards the request to one
// llama-server, relays the reply as it arrives, and notices a client that leaves. It knows HTTP/1.1
// and no JSON; what passes through is shown to package meter after it was written.
//
// What passes through is not rebuilt. A request's head is read, validated and forwarded line by line
// without its hop-by-hop fields; bodies keep their own framing (a chunk that arrived is the chunk that
// leaves), and so do trailers, interim replies and the reply's head. That is why HEAD, HTTP/1.0,
// 100-continue, trailers and odd header spellings need no code of their own here.
//
// valyala/fasthttp runs the connections: workers, keep-alive, idle deadlines, shutdown. It is shown a
// fixed head for every request and what it would answer is dropped (conn.go says why).
//
// The way of a request: Server (server.go) accepts, clientConn (conn.go) reads and validates the head
// (head.go), exchange (exchange.go) takes an upstream connection (upstream.go), forwards (upload.go),
// relays the reply (relay.go) through the framing in chunk.go and settles how it ended (finish.go), while
// watcher (watch.go) waits for the client to leave. Observer and Tracer (observer.go) are all that the rest of wattline sees.
package proxy
