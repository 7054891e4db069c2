package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// row is what is read of a request's row.
type row struct {
	Agent   string `json:"agent"`
	Session string `json:"session"`
	User    string `json:"user"`
	Dialect string `json:"dialect"`
	Path    string `json:"path"`
	Outcome string `json:"outcome"`
}

// inferred reports whether wattline inferred the session.
func (r *row) inferred() bool { return strings.HasPrefix(r.Session, "inferred-") }

// generates reports whether the model ran for it.
func (r *row) generates() bool { return !slices.Contains([]string{"", "tokenize", "count"}, r.Dialect) }

// rows are the requests that began since a time, once the last of them has its row.
func (w *wattline) rows(ctx context.Context, since time.Time) (out []row, err error) {
	q := url.Values{"from": {since.UTC().Format(time.RFC3339Nano)}, "limit": {"10000"}, "columns": {"agent,session,user,dialect,path,outcome"}}
	for deadline := time.Now().Add(20 * time.Second); ; {
		var live []json.RawMessage
		if err := w.ask(ctx, "/api/inflight", &live); err != nil {
			return nil, err
		}
		out = nil
		if err := w.ask(ctx, "/api/requests?"+q.Encode(), &out); err != nil {
			return nil, err
		}
		if len(live) == 0 {
			return out, nil
		}
		if time.Now().After(deadline) {
			return out, fmt.Errorf("%d requests go on after their client has ended", len(live))
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (w *wattline) ask(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.admin+path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", path, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// summary is what rows say of a client.
type summary struct {
	agents, users, named, inferred []string
	generations, others            int
	outcomes                       string
}

func summarise(rows []row) (s summary) {
	add := func(to *[]string, v string) {
		if v != "" && !slices.Contains(*to, v) {
			*to = append(*to, v)
		}
	}
	counts := map[string]int{}
	for _, r := range rows {
		add(&s.agents, r.Agent)
		if !r.generates() {
			s.others++
			continue
		}
		s.generations++
		counts[r.Outcome]++
		add(&s.users, r.User)
		if r.inferred() {
			add(&s.inferred, r.Session)
		} else {
			add(&s.named, r.Session)
		}
	}
	slices.Sort(s.agents)
	var words []string
	for outcome, n := range counts {
		words = append(words, fmt.Sprintf("%d %s", n, outcome))
	}
	slices.Sort(words)
	s.outcomes = strings.Join(words, ", ")
	return s
}

// sessions says how many sessions there were and how they are known.
func (s *summary) sessions() string {
	var words []string
	if n := len(s.named); n > 0 {
		name := s.named[0]
		words = append(words, fmt.Sprintf("%d named (%s)", n, name[:min(len(name), 12)]))
	}
	if n := len(s.inferred); n > 0 {
		words = append(words, fmt.Sprintf("%d inferred", n))
	}
	return or(strings.Join(words, ", "))
}
