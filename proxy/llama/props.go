package llama

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path"
	"syscall"
	"time"

	"wattline/meter"
	"wattline/proxy"
)

// ServerInfo are what an upstream says of itself. What it does not say is empty or null.
type ServerInfo struct {
	Build         string
	Model         string
	Quantisation  string
	ContextTokens meter.Int // of a slot
	Slots         meter.Int
}

// ErrNotReady: nobody listens there, or the server is still loading, or who stands before it cannot reach it.
var ErrNotReady = errors.New("llama: the upstream is not ready")

const (
	infoAnswerTime = 2 * time.Second // for one question
	maxInfoReply   = 8 << 20         // a reply holds the chat template; a router's lists all models
)

// Ask asks for the facts. An upstream that is no llama-server, a router, or one that wants a key gives what
// can be had and no error; an error means that nobody answered, and that nothing was learnt.
func AskInfo(ctx context.Context, up proxy.Upstream) (ServerInfo, error) {
	var f ServerInfo
	transport := &http.Transport{
		DisableKeepAlives:  true,
		DisableCompression: true,
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return up.Dial(ctx) },
	}
	client := &http.Client{Timeout: infoAnswerTime, Transport: transport}
	body, err := get(ctx, client, up, "/props")
	if err != nil {
		return f, err
	}
	f.props(body)
	if f.Model != "" && f.Quantisation != "" {
		return f, nil
	}
	if body, err = get(ctx, client, up, "/v1/models"); err != nil {
		return ServerInfo{}, err
	}
	f.models(body)
	return f, nil
}

// get returns the body of a reply of status 200, and nothing of one that refuses.
func get(ctx context.Context, client *http.Client, up proxy.Upstream, from string) (_ []byte, err error) {
	// The connection speaks TLS already where the upstream does.
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+up.Host()+from, nil)
	if err != nil {
		return nil, fmt.Errorf("llama: %w", err)
	}
	resp, err := client.Do(req)
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) {
		return nil, fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	if err != nil {
		return nil, fmt.Errorf("llama: %w", err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	switch {
	case resp.StatusCode >= 500 && resp.StatusCode != http.StatusNotImplemented:
		return nil, fmt.Errorf("%w: %s: status %d", ErrNotReady, from, resp.StatusCode)
	case resp.StatusCode != http.StatusOK:
		return nil, nil // a key, or no such path
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxInfoReply))
	if err != nil {
		return nil, fmt.Errorf("llama: %w", err)
	}
	return body, nil
}

// props reads a reply to GET /props: llama.cpp's tools/server, get_props.
func (f *ServerInfo) props(body []byte) {
	var wire struct {
		Build    string `json:"build_info"`
		Role     string `json:"role"`
		Alias    string `json:"model_alias"`
		Path     string `json:"model_path"`
		Type     string `json:"model_ftype"`
		Slots    int64  `json:"total_slots"`
		Settings struct {
			Context int64 `json:"n_ctx"`
		} `json:"default_generation_settings"`
	}
	if json.Unmarshal(body, &wire) != nil {
		return // whatever answers there, it is no llama-server
	}
	f.Build = wire.Build
	if wire.Role == "router" { // it serves nothing itself
		return
	}
	if f.Model = wire.Alias; f.Model == "" && wire.Path != "" {
		f.Model = path.Base(wire.Path)
	}
	f.Quantisation = wire.Type
	f.ContextTokens, f.Slots = positive(wire.Settings.Context), positive(wire.Slots)
}

// models reads a reply to GET /v1/models. Of several models none is said to be served.
func (f *ServerInfo) models(body []byte) {
	var wire struct {
		Data []struct {
			ID   string `json:"id"`
			Meta struct {
				Type string `json:"ftype"`
			} `json:"meta"`
		} `json:"data"`
	}
	if json.Unmarshal(body, &wire) != nil || len(wire.Data) != 1 {
		return
	}
	if f.Model == "" {
		f.Model = wire.Data[0].ID
	}
	if f.Quantisation == "" {
		f.Quantisation = wire.Data[0].Meta.Type
	}
}

func positive(n int64) meter.Int { return meter.Int{V: max(n, 0), Valid: n > 0} }
