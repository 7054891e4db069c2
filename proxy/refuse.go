package proxy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"wattline/meter"
)

// refusalBody is the error shape that OpenAI's clients and llama-server's read.
type refusalBody struct {
	Error struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    int     `json:"code"`
	} `json:"error"`
}

// refuseWith answers for the upstream; extras are further header lines. The connection closes after it.
func (c *clientConn) refuseWith(why *refusal, extras string) {
	var body refusalBody
	body.Error.Message, body.Error.Code = why.reason, why.status
	switch {
	case why.status >= 500 && why.status != 503 && why.status != 505:
		body.Error.Type = "upstream_error"
	case why.status == 503:
		body.Error.Type = "unavailable_error"
		extras += "Retry-After: 1\r\n"
	default:
		body.Error.Type = "invalid_request_error"
	}
	text, err := json.Marshal(body)
	if err != nil {
		return // a struct of strings and ints
	}
	msg := fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n%s\r\n",
		why.status, http.StatusText(why.status), len(text), extras)
	if c.head.methodEnd == 0 || string(c.head.method()) != "HEAD" {
		msg = append(msg, text...)
	}
	_ = c.Conn.SetWriteDeadline(time.Now().Add(c.srv.cfg.WriteIdle))
	_, _ = c.Conn.Write(msg) // a client that is gone need not be told
}

// refused answers a connection's bytes that never became an exchange, and leaves a row. The connection
// is to be closed then, after it has lingered.
func (s *Server) refused(c *clientConn, why *refusal) {
	now := time.Now()
	if c.arrive.IsZero() {
		c.arrive = now
	}
	rec := &meter.Record{
		ID: newID(), StartedAt: c.arrive, Instance: s.cfg.Instance, Route: s.cfg.Name, Upstream: s.cfg.Upstream.String(),
		Status: meter.Some(int64(why.status)), Outcome: meter.Rejected, Error: why.reason,
	}
	if c.head.methodEnd > 0 {
		rec.Method, rec.Path = c.named()
	}
	s.identify(rec, c)
	c.refuseWith(why, "")
	s.done(0, s.now(), rec)
}
