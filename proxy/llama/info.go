package llama

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"time"

	"wattline/meter"
)

// ServerInfo is what an upstream says of itself. What it does not say is empty or null.
type ServerInfo struct {
	Build         string
	Model         string
	Quantisation  string
	ContextTokens meter.Int // of a slot
	Slots         meter.Int
}

// infoTimeout bounds each of the questions behind Info.
const infoTimeout = 2 * time.Second

// Info asks for /props and, where that leaves something open, for /v1/models. An upstream that is no
// llama-server, a router, or a server that wants a key gives what can be had and no error. An error means
// that nothing was learnt.
func (c *Client) Info(ctx context.Context) (ServerInfo, error) {
	var f ServerInfo
	body, err := c.getInfo(ctx, "/props")
	if err != nil {
		return f, err
	}
	f.readProps(body)
	if f.Model != "" && f.Quantisation != "" {
		return f, nil
	}
	if body, err = c.getInfo(ctx, "/v1/models"); err != nil {
		return ServerInfo{}, err
	}
	f.readModels(body)
	return f, nil
}

// getInfo returns the body of a reply with status 200, and nil for one that refuses.
func (c *Client) getInfo(ctx context.Context, from string) ([]byte, error) {
	status, body, err := c.get(ctx, infoTimeout, from)
	switch {
	case err != nil:
		return nil, err
	case status >= 500 && status != http.StatusNotImplemented:
		return nil, fmt.Errorf("%w: %s: status %d", ErrNotReady, from, status)
	case status != http.StatusOK:
		return nil, nil // it wants a key, or has no such path
	}
	return body, nil
}

// readProps reads a reply to GET /props: llama.cpp's tools/server, get_props.
func (f *ServerInfo) readProps(body []byte) {
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
		return // not a llama-server
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

// readModels reads a reply to GET /v1/models. A list of several does not say which one is served.
func (f *ServerInfo) readModels(body []byte) {
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
