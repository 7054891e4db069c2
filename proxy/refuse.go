package proxy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"wattline/meter"
	"wattline/proxy/http1"
)

// refusalBody is the error format of the OpenAI API and of llama-server.
type refusalBody struct {
	Error struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    int     `json:"code"`
	} `json:"error"`
}

// writeError answers with an error; extras are further header lines. The connection must be closed after it.
func (c *clientConn) writeError(why *http1.StatusError, extras string) {
	var body refusalBody
	body.Error.Message, body.Error.Code = why.Reason, why.Status
	switch {
	case why.Status >= 500 && why.Status != 503 && why.Status != 505:
		body.Error.Type = "upstream_error"
	case why.Status == 503:
		body.Error.Type = "unavailable_error"
		extras += "Retry-After: 1\r\n"
	default:
		body.Error.Type = "invalid_request_error"
	}
	text, err := json.Marshal(body)
	if err != nil {
		return // cannot happen
	}
	msg := fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n%s\r\n",
		why.Status, http.StatusText(why.Status), len(text), extras)
	if !c.head.HasMethod() || string(c.head.Method()) != "HEAD" {
		msg = append(msg, text...)
	}
	_ = c.Conn.SetWriteDeadline(time.Now().Add(c.srv.cfg.WriteIdle))
	_, _ = c.Conn.Write(msg) // the client may have left
}

// rejectConn answers a connection without an exchange and leaves a row. The caller must then call closeGently
// and Close.
func (s *Server) rejectConn(c *clientConn, why *http1.StatusError) {
	now := time.Now()
	if c.arrived.IsZero() {
		c.arrived = now
	}
	rec := &meter.Record{
		ID: newID(), StartedAt: c.arrived, Instance: s.cfg.Instance, Route: s.cfg.Name, Upstream: s.cfg.Upstream.String(),
		Status: meter.Some(int64(why.Status)), Outcome: meter.Rejected, Error: why.Reason,
	}
	if c.head.HasMethod() {
		c.describe(rec)
		noteLongPath(rec, c.pathBytes)
	}
	s.identify(rec, c)
	c.writeError(why, "")
	s.done(0, s.now(), rec)
}

// statusError makes an error that the client is answered with.
func statusError(status int, reason string) *http1.StatusError {
	return &http1.StatusError{Status: status, Reason: reason}
}
