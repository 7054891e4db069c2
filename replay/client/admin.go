package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"wattline/meter"
	"wattline/replay"
)

// Admin asks a wattline's admin listener. It is safe for use by several goroutines.
type Admin struct {
	c     *Client
	runID string
}

// NewAdmin makes an Admin for an endpoint like http://127.0.0.1:11435, with the listener's password, if it asks for one. Its
// RunID is the label under which the run's own requests are known there.
func NewAdmin(cfg Config) (*Admin, error) {
	c, err := New(cfg)
	if err != nil {
		return nil, fmt.Errorf("--admin %q is no address: write it as http://HOST:PORT or unix:///PATH", cfg.Endpoint)
	}
	return &Admin{c: c, runID: cfg.RunID}, nil
}

// Address is where the admin listener is.
func (a *Admin) Address() string { return a.c.name }

// Close lets idle connections go.
func (a *Admin) Close() { a.c.Close() }

// Reachable asks whether it is there.
func (a *Admin) Reachable(ctx context.Context) error { return a.c.ask(ctx, "/healthz", nil, nil) }

// InFlight is how many requests the proxy has in flight just now.
func (a *Admin) InFlight(ctx context.Context) (int, error) {
	var list []struct {
		ID string `json:"id"`
	}
	err := a.c.ask(ctx, "/api/inflight", nil, &list)
	return len(list), err
}

// idsPerQuestion keeps the request line below the listener's limit.
const idsPerQuestion = 50

// Join finds the rows of the exchanges that have an id. A row with pending energy is asked for
// again, until patience is over.
func (a *Admin) Join(ctx context.Context, list []*replay.Exchange, patience time.Duration) error {
	deadline := time.Now().Add(patience)
	waiting := slices.DeleteFunc(slices.Clone(list), func(e *replay.Exchange) bool { return e.RowID == "" })
	for len(waiting) > 0 {
		var still []*replay.Exchange
		for some := range slices.Chunk(waiting, idsPerQuestion) {
			if err := a.rows(ctx, some); err != nil {
				return err
			}
			for _, e := range some {
				if e.InLine == nil || e.InLine.EnergyQuality == meter.EnergyPending {
					still = append(still, e)
				}
			}
		}
		if len(still) == 0 || time.Now().After(deadline) {
			return nil
		}
		waiting = still
		if err := sleep(ctx, joinPoll); err != nil {
			return err
		}
	}
	return nil
}

const joinPoll = 300 * time.Millisecond

func (a *Admin) rows(ctx context.Context, list []*replay.Exchange) error {
	q := url.Values{}
	byID := map[string]*replay.Exchange{}
	for _, e := range list {
		q.Add("id", e.RowID)
		byID[e.RowID] = e
	}
	var rows []*meter.Record
	if err := a.c.ask(ctx, "/api/requests?"+q.Encode(), nil, &rows); err != nil {
		return fmt.Errorf("the rows measured in line: %w", err)
	}
	for _, r := range rows {
		if r == nil { // an older wattline's word for a row that it has not
			continue
		}
		if e := byID[r.ID]; e != nil {
			e.InLine = r
		}
	}
	return nil
}

// OtherTraffic lists the requests of others that were under way between from and to and generated tokens or
// were to: "agent path" each.
func (a *Admin) OtherTraffic(ctx context.Context, from, to time.Time) ([]string, error) {
	const most = 10000
	for limit := 500; ; limit *= 5 {
		limit = min(limit, most)
		var rows []*meter.Record
		if err := a.c.ask(ctx, "/api/requests?limit="+strconv.Itoa(limit), nil, &rows); err != nil {
			return nil, fmt.Errorf("the rows of others: %w", err)
		}
		if len(rows) == limit && limit < most && rows[len(rows)-1].StartedAt.After(from) {
			continue
		}
		var out []string
		for _, r := range rows {
			end := r.StartedAt.Add(time.Duration(r.DurationUs.V) * time.Microsecond)
			if r.Labels["replay"] == a.runID || r.Dialect == "" || end.Before(from) || r.StartedAt.After(to) {
				continue
			}
			out = append(out, strings.TrimSpace(r.Agent+" "+r.Path))
		}
		return out, nil
	}
}

// Recent returns the rows of others' requests that ended after a time, the newest first, at most 500. Their energy may
// still be pending.
func (a *Admin) Recent(ctx context.Context, since time.Time) ([]*meter.Record, error) {
	const most = 500
	var rows []*meter.Record
	if err := a.c.ask(ctx, "/api/requests?limit="+strconv.Itoa(most), nil, &rows); err != nil {
		return nil, fmt.Errorf("the rows of others: %w", err)
	}
	return slices.DeleteFunc(rows, func(r *meter.Record) bool {
		end := r.StartedAt.Add(time.Duration(r.DurationUs.V) * time.Microsecond)
		return !end.After(since) || r.Outcome != meter.OK || r.Dialect == "" || r.Labels["replay"] != ""
	}), nil
}

// Configs returns what the upstream was, as words, by config_id.
func (a *Admin) Configs(ctx context.Context) (map[string]string, error) {
	var rows []map[string]any
	if err := a.c.ask(ctx, "/api/configs", nil, &rows); err != nil {
		return nil, fmt.Errorf("the configurations: %w", err)
	}
	out := map[string]string{}
	for _, row := range rows {
		id, _ := row["config_id"].(string)
		var words []string
		for _, name := range []string{"server_build", "model", "quantisation", "context_tokens", "slots", "driver", "gpu_power_limit_mw", "wattline_version"} {
			if v, ok := row[name]; ok && v != nil {
				words = append(words, fmt.Sprintf("%s=%v", name, v))
			}
		}
		flags, _ := row["server_flags"].([]any)
		for i, f := range flags { // a flag with its value is one word
			text := fmt.Sprint(f)
			if i > 0 && !strings.HasPrefix(text, "-") && len(words) > 0 {
				words[len(words)-1] += "=" + text
				continue
			}
			words = append(words, text)
		}
		out[id] = strings.Join(words, " ")
	}
	return out, nil
}

// Energy returns the energy that the devices drew. A wattline without a power source, or from before it had the
// question, has nothing to say, which is no error.
func (a *Admin) Energy(ctx context.Context, from, to time.Time) (replay.Power, error) {
	q := url.Values{"from": {from.UTC().Format(time.RFC3339Nano)}, "to": {to.UTC().Format(time.RFC3339Nano)}}
	var p replay.Power
	err := a.c.ask(ctx, "/api/energy?"+q.Encode(), nil, &p)
	if StatusOf(err) == http.StatusNotFound {
		return replay.Power{}, nil
	}
	return p, err
}
