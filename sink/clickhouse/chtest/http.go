package chtest

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/ClickHouse/ch-go/compress"
)

// httpSession is the state of a session_id between requests, which take turns.
type httpSession struct {
	sync.Mutex
	*session
}

// notSettings are the URL parameters of ClickHouse's HTTP interface that are no settings.
// Source: https://clickhouse.com/docs/interfaces/http
var notSettings = map[string]bool{ //nolint:gochecknoglobals // a constant table
	"query": true, "database": true, "default_format": true, "client_protocol_version": true,
	"compress": true, "decompress": true, "user": true, "password": true, "quota_key": true, "query_id": true,
	"session_id": true, "session_timeout": true, "session_check": true, "role": true,
	"wait_end_of_query": true, "buffer_size": true, "stacktrace": true,
}

func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/ping" || (r.Method == http.MethodGet && r.URL.RawQuery == "") {
		_, _ = io.WriteString(w, "Ok.\n")
		return
	}
	out, err := s.answerHTTP(r)
	exception, refused := errors.AsType[*Exception](err)
	switch {
	case err == nil:
		w.Header().Set("Content-Length", strconv.Itoa(len(out)))
		_, _ = w.Write(out) //nolint:gosec // a database's answer to its client, no page
	case refused:
		code := exceptionCode(exception.Text)
		w.Header().Set("X-ClickHouse-Exception-Code", strconv.Itoa(code))
		w.WriteHeader(httpStatus(code))
		_, _ = io.WriteString(w, exception.Text+"\n")
	default: // cut, or the engine died: no answer at all
		s.report(err)
		panic(http.ErrAbortHandler)
	}
}

func (s *Server) answerHTTP(r *http.Request) ([]byte, error) {
	params := r.URL.Query()
	user, password := credentials(r, params)
	if err := s.authenticate(user, password); err != nil {
		return nil, err
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/") {
		return nil, &Exception{"Code: 48. DB::Exception: external tables are not supported by this test server (NOT_IMPLEMENTED)"}
	}
	body, err := readBody(r, params)
	if err != nil {
		return nil, err
	}
	req := newRequest(params, body)
	out, err := s.executeHTTP(r.Context(), params.Get("session_id"), req)
	if err != nil || req.format != "Native" {
		return out, err
	}
	return encodeResult(out, params)
}

func credentials(r *http.Request, params url.Values) (user, password string) {
	user, password = "default", ""
	switch u, p, ok := r.BasicAuth(); {
	case ok:
		user, password = u, p
	case r.Header.Get("X-ClickHouse-User") != "":
		user, password = r.Header.Get("X-ClickHouse-User"), r.Header.Get("X-ClickHouse-Key")
	case params.Has("user"):
		user, password = params.Get("user"), params.Get("password")
	}
	return user, password
}

func readBody(r *http.Request, params url.Values) ([]byte, error) {
	var src io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(src)
		if err != nil {
			return nil, fmt.Errorf("chtest: request body: %w", err)
		}
		src = z
	}
	if params.Get("decompress") == "1" {
		src = compress.NewReader(src)
	}
	body, err := io.ReadAll(src)
	if err != nil && !errors.Is(err, io.EOF) { // the decompressing reader wraps the end
		return nil, fmt.Errorf("chtest: request body: %w", err)
	}
	return body, nil
}

func newRequest(params url.Values, body []byte) request {
	req := request{
		query: params.Get("query"), data: body, database: params.Get("database"),
		settings: map[string]string{}, params: map[string]string{}, format: "TabSeparated",
	}
	if req.query == "" {
		req.query, req.data = string(body), nil
	}
	if f := params.Get("default_format"); f != "" {
		req.format = f
	}
	if m := formatClause.FindStringSubmatch(req.query); m != nil && len(req.data) == 0 {
		req.format = m[1]
	}
	for k := range params {
		if p, ok := strings.CutPrefix(k, "param_"); ok {
			req.params[p] = params.Get(k)
		} else if !notSettings[k] {
			req.settings[k] = params.Get(k)
		}
	}
	return req
}

// formatClause finds a FORMAT at the end of a query, which wins over default_format.
var formatClause = regexp.MustCompile(`(?is)\sFORMAT\s+(\w+)\s*;?\s*$`)

func (s *Server) executeHTTP(ctx context.Context, id string, req request) ([]byte, error) {
	if id == "" {
		ses, err := s.engine.session()
		if err != nil {
			return nil, err
		}
		defer ses.close()
		return s.execute(ctx, ses, req)
	}
	h, err := s.namedSession(id)
	if err != nil {
		return nil, err
	}
	h.Lock()
	defer h.Unlock()
	return s.execute(ctx, h.session, req)
}

func (s *Server) namedSession(id string) (*httpSession, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.sessions[id]; h != nil {
		return h, nil
	}
	ses, err := s.engine.session()
	if err != nil {
		return nil, err
	}
	s.sessions[id] = &httpSession{session: ses}
	return s.sessions[id], nil
}

// encodeResult turns blocks as the engine writes them to a file into blocks for the client's protocol version.
func encodeResult(out []byte, params url.Values) ([]byte, error) {
	revision, _ := strconv.ParseUint(params.Get("client_protocol_version"), 10, 64)
	var reply bytes.Buffer
	c := compress.NewWriter(compress.LevelZero, compress.LZ4)
	err := eachBlock(out, 0, func(b *block) error {
		raw, err := encodeBlock(b, revision)
		if err != nil {
			return err
		}
		if params.Get("compress") == "1" {
			if err := c.Compress(raw); err != nil {
				return err
			}
			raw = c.Data
		}
		_, err = reply.Write(raw)
		return err
	})
	if err != nil {
		return nil, &Exception{"Code: 1001. DB::Exception: chtest: " + err.Error() + " (STD_EXCEPTION)"}
	}
	return reply.Bytes(), nil
}

var exceptionCodeRE = regexp.MustCompile(`^Code: (\d+)\.`)

func exceptionCode(text string) int {
	if m := exceptionCodeRE.FindStringSubmatch(text); m != nil {
		n, _ := strconv.Atoi(m[1])
		return n
	}
	return 1002 // UNKNOWN_EXCEPTION
}

// httpStatus is the status that a server gives an exception.
// Source: exceptionCodeToHTTPStatus in ClickHouse's src/Server/HTTP/exceptionCodeToHTTPStatus.cpp.
func httpStatus(code int) int {
	switch code {
	case 192, 193, 194, 497, 516:
		return http.StatusForbidden
	case 60, 81, 16, 46, 47, 50, 115:
		return http.StatusNotFound
	case 26, 27, 36, 38, 41, 53, 62:
		return http.StatusBadRequest
	case 48:
		return http.StatusNotImplemented
	}
	return http.StatusInternalServerError
}
