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

// ServerInfo describes an upstream. A field that the upstream does not report is empty or null.
type ServerInfo struct {
	Build         string
	Model         string
	Quantisation  string
	ContextTokens meter.Int // of a slot
	Slots         meter.Int
}

// infoTimeout bounds each of Info's requests.
const infoTimeout = 2 * time.Second

// Info reads /props and, if the model or its type is missing there, /v1/models. From a router, a server that
// wants an API key or another kind of server it returns the fields that it can get, and no error. With an error
// nothing was learnt.
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

// getInfo returns the body of a reply with status 200, and nil for a refusal.
func (c *Client) getInfo(ctx context.Context, from string) ([]byte, error) {
	status, body, err := c.get(ctx, infoTimeout, from)
	switch {
	case err != nil:
		return nil, err
	case status >= 500 && status != http.StatusNotImplemented:
		return nil, fmt.Errorf("%w: %s: status %d", ErrNotReady, from, status)
	case status != http.StatusOK:
		return nil, nil // an API key is missing, or the path is unknown
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
