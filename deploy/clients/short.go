package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
)

// shorten starts a server in front of llama-server that takes the tools out of each request. A model with random weights calls
// tools without end; without them, and with the grammar that the server is started with, it says hello and stops, so that a
// client ends by itself. It stands behind wattline, which sees what the client has sent.
func shorten(to string) (*httptest.Server, error) {
	target, err := url.Parse(to)
	if err != nil {
		return nil, err
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(target) }, FlushInterval: -1}
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = withoutTools(body)
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		proxy.ServeHTTP(w, req)
	})), nil
}

// withoutTools is a body without what makes a reply more than a text; one that is no JSON object stays as it is.
func withoutTools(body []byte) []byte {
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) != nil || members == nil {
		return body
	}
	for _, name := range []string{"tools", "tool_choice", "parallel_tool_calls", "response_format"} {
		delete(members, name)
	}
	out, err := json.Marshal(members)
	if err != nil {
		return body
	}
	return out
}
