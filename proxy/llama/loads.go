package llama

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"wattline/meter"
)

// ErrNoLoads: the upstream does not tell whether it sleeps or loads a model.
var ErrNoLoads = errors.New("llama: the upstream does not tell the state of its models")

// Loads asks whether a server sleeps (is_sleeping in llama-server's /props) and which models a router loads (llama-server's
// /models, llama-swap's /running). None of these requests wakes a server.
func (c *Client) Loads(ctx context.Context) (s meter.LoadState, err error) {
	status, body, err := c.get(ctx, infoTimeout, "/props")
	if err != nil {
		return s, err
	}
	var props struct {
		Sleeping *bool  `json:"is_sleeping"`
		Role     string `json:"role"`
	}
	if status == http.StatusOK && json.Unmarshal(body, &props) == nil && (props.Role == "router" || props.Sleeping != nil) {
		if props.Role == "router" {
			s.Router = true
			s.Loading, err = c.loadingModels(ctx)
			return s, err
		}
		s.Asleep = *props.Sleeping
		return s, nil
	}
	if status, body, err = c.get(ctx, infoTimeout, "/running"); err != nil {
		return s, err
	}
	var swap struct {
		Running []struct{ Model, State string } `json:"running"`
	}
	if status != http.StatusOK || json.Unmarshal(body, &swap) != nil || swap.Running == nil {
		return s, ErrNoLoads
	}
	s.Router = true
	for _, m := range swap.Running {
		if m.State == "starting" {
			s.Loading = append(s.Loading, m.Model)
		}
	}
	return s, nil
}

// loadingModels lists the models that a llama-server loads in router mode. One that sleeps is loaded for a request that waits.
func (c *Client) loadingModels(ctx context.Context) (loading []string, err error) {
	body, err := c.getInfo(ctx, "/models")
	if err != nil {
		return nil, err
	}
	var wire struct {
		Data []struct {
			ID     string `json:"id"`
			Status struct {
				Value string `json:"value"`
			} `json:"status"`
		} `json:"data"`
	}
	if json.Unmarshal(body, &wire) != nil {
		return nil, ErrNoLoads
	}
	for _, m := range wire.Data {
		if v := m.Status.Value; v == "loading" || v == "sleeping" {
			loading = append(loading, m.ID)
		}
	}
	return loading, nil
}
