package main

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// shape is a request without its texts, as meter/testdata/clients.json has them.
type shape struct {
	Client  string            `json:"client"`
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Headers map[string]string `json:"headers"`
	Body    any               `json:"body,omitempty"`
}

// recorder passes requests on and keeps their shapes.
type recorder struct {
	front *httptest.Server

	mu     sync.Mutex // guards what follows
	client string     // whose turn it is
	all    []shape
}

// record starts a recorder in front of an address.
func record(to string) (*recorder, error) {
	target, err := url.Parse(to)
	if err != nil {
		return nil, err
	}
	r := &recorder{}
	proxy := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(target) }, FlushInterval: -1}
	r.front = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		req.Body = io.NopCloser(bytes.NewReader(body))
		r.add(req, body)
		proxy.ServeHTTP(w, req)
	}))
	return r, nil
}

func (r *recorder) begin(client string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.client = client
}

// telling are headers and members that may name a client, its session or its user.
var telling = regexp.MustCompile(`(?i)session|thread|conversation|chat-id|user|title|referer|originator|client-request-id|cache_key|account|device|agent|^x-app$`)

// kept are members whose text is part of the shape.
var kept = []string{"role", "type", "model", "object"}

func (r *recorder) add(req *http.Request, body []byte) {
	s := shape{Method: req.Method, Path: req.URL.Path, Headers: map[string]string{}}
	for name, values := range req.Header {
		if telling.MatchString(name) {
			s.Headers[name] = anonymous(values[0])
		}
	}
	var document any
	if json.Unmarshal(body, &document) == nil {
		s.Body = shapeOf("", document)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Client = r.client
	r.all = append(r.all, s)
}

// shapeOf replaces texts, and leaves of a list of tools the first.
func shapeOf(name string, v any) any {
	switch v := v.(type) {
	case string:
		switch {
		case slices.Contains(kept, name):
			return v
		case telling.MatchString(name):
			return anonymous(v)
		}
		return "text"
	case []any:
		if name == "tools" && len(v) > 0 {
			return []any{map[string]any{"type": "function"}}
		}
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = shapeOf(name, e)
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for _, k := range slices.Sorted(maps.Keys(v)) {
			out[k] = shapeOf(k, v[k])
		}
		return out
	}
	return v
}

var (
	uuid = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	long = regexp.MustCompile(`[0-9A-Za-z]{20,}`)
)

// anonymous replaces what tells one installation from another.
func anonymous(s string) string {
	s = uuid.ReplaceAllString(s, "00000000-0000-7000-8000-000000000001")
	return long.ReplaceAllStringFunc(s, func(m string) string { return strings.Repeat("0", 20) })
}

// write writes the different shapes of each client.
func (r *recorder) write(path string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := map[string]bool{}
	var out []json.RawMessage
	for _, s := range r.all {
		text, err := json.Marshal(s)
		if err != nil {
			return err
		}
		if !seen[string(text)] {
			out = append(out, text)
		}
		seen[string(text)] = true
	}
	text, err := json.MarshalIndent(out, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o600)
}
