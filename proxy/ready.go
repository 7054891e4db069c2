package proxy

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
)

// Ready asks the upstream's /health. Any answer below 500 will do: not every server has the route, and
// llama-server says 503 while it loads.
func (s *Server) Ready(ctx context.Context) error {
	up, err := s.pool.open(ctx)
	if err != nil {
		return fmt.Errorf("%s", dialError(s.cfg.Upstream, err))
	}
	defer up.Close() //nolint:errcheck // only read from
	if d, ok := ctx.Deadline(); ok {
		_ = up.SetDeadline(d)
	}
	host := s.cfg.Upstream.addr
	if s.cfg.Upstream.network == "unix" {
		host = "localhost" // a path is no host name, and llama-server answers 400 to it
	}
	if _, err := up.Write([]byte("GET /health HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n")); err != nil {
		return fmt.Errorf("the upstream %s does not answer: %s", s.cfg.Upstream, plain(err))
	}
	resp, err := http.ReadResponse(bufio.NewReader(up), nil)
	if err != nil {
		return fmt.Errorf("the upstream %s does not answer /health: %s", s.cfg.Upstream, plain(err))
	}
	defer resp.Body.Close() //nolint:errcheck // not read
	if resp.StatusCode >= 500 {
		return fmt.Errorf("the upstream %s is not ready: /health says %s", s.cfg.Upstream, resp.Status)
	}
	return nil
}
