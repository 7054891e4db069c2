// Package proxy is the data path: it accepts client connections, forwards each request to one llama-server,
// relays the reply as it arrives, and notices clients that leave. It knows HTTP/1.1 but no JSON; package meter
// is shown the bytes after they were written.
//
// Messages are not rebuilt. A request's head is validated and forwarded line by line without its hop-by-hop
// fields. Bodies keep their framing (a chunk that arrived is the chunk that leaves), and so do trailers,
// interim replies and the reply's head. So HEAD, HTTP/1.0, 100-continue, trailers and unusual header spellings
// need no code of their own.
//
// valyala/fasthttp runs the connections: workers, keep-alive, shutdown. It reads a placeholder head for every
// request, and its own answer is dropped (conn.go says why).
//
// A request's way through the files:
//
//	listener.go             accepts the connection, within the limit
//	conn.go, http1          read and validate the head; P0
//	exchange.go, upload.go  take an upstream connection (pool.go) and send the request; P1
//	relay.go                passes the reply on and shows it to the meter
//	finish.go               decides how the exchange ended and completes the row
//	departure.go, rawconn   notice that the client leaves, at any moment
//	observer.go             Observer and Tracer, through which the rest of wattline follows an exchange
package proxy
