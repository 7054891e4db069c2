package llama_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	deployed "wattline/deploy/llama"
	"wattline/meter"
	"wattline/proxy"
	"wattline/proxy/llama"
	"wattline/proxy/llamatest"
)

// TestLoadsShapes: what the servers say of a model's load.
func TestLoadsShapes(t *testing.T) {
	for _, c := range []struct {
		replies map[string]string
		want    meter.LoadState
		fails   bool
	}{
		{map[string]string{"/props": `{"is_sleeping":true}`}, meter.LoadState{Asleep: true}, false},
		{map[string]string{"/props": `{"is_sleeping":false}`}, meter.LoadState{}, false},
		{map[string]string{"/props": `{"total_slots":4}`}, meter.LoadState{}, true},
		{map[string]string{"/props": `{"role":"router"}`, "/models": `{"data":[{"id":"a","status":{"value":"loaded"}},{"id":"b","status":{"value":"loading"}},{"id":"c","status":{"value":"unloaded"}},{"id":"d","status":{"value":"sleeping"}}]}`}, meter.LoadState{Router: true, Loading: []string{"b", "d"}}, false},
		{map[string]string{"/running": `{"running":[{"model":"a","state":"ready"},{"model":"b","state":"starting"}]}`}, meter.LoadState{Router: true, Loading: []string{"b"}}, false},
		{map[string]string{"/running": `{"running":[]}`}, meter.LoadState{Router: true}, false},
		{nil, meter.LoadState{}, true},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, ok := c.replies[r.URL.Path]
			if !ok {
				w.WriteHeader(http.StatusNotFound)
			}
			_, _ = io.WriteString(w, body)
		}))
		up, err := proxy.ParseUpstream(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := llama.NewClient(up).Loads(t.Context()); !reflect.DeepEqual(got, c.want) || (err != nil) != c.fails {
			t.Errorf("%v: %+v, %v", c.replies, got, err)
		}
		srv.Close()
	}
}

// loadRow hands on a row.
type loadRow struct {
	proxy.NopObserver
	rows chan *meter.Record
}

func (l loadRow) Done(_ uint64, _ int64, rec *meter.Record) { l.rows <- rec }

// TestRealLoads: a real server that sleeps, and one in router mode with a model that is not loaded. The request that waits for
// the load has load_us, and no queue_us to speak of; the next one has none.
func TestRealLoads(t *testing.T) {
	for name, server := range map[string]*deployed.Server{
		"sleeps": llamatest.Start(t, "--sleep-idle-seconds", "1", "-c", "100000", "-np", "1"),
		"router": llamatest.StartRouter(t, "-c", "100000", "-np", "1"),
	} {
		up, err := proxy.ParseUpstream(server.URL())
		if err != nil {
			t.Fatal(err)
		}
		told := make(chan meter.LoadState, 1000)
		ask := func(ctx context.Context) (meter.LoadState, error) {
			s, err := llama.NewClient(up).Loads(ctx)
			told <- s
			return s, err
		}
		seen := loadRow{rows: make(chan *meter.Record, 1)}
		srv, err := proxy.New(proxy.Config{Upstream: up, Observer: seen, Loads: ask})
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test's
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = srv.Serve(ln) }()
		for s := <-told; !s.Asleep && !s.Router; s = <-told { // the server sleeps, or is known to be a router
		}
		var rows []*meter.Record
		for range 2 {
			resp, err := http.Post("http://"+ln.Addr().String()+"/v1/chat/completions", "application/json",
				strings.NewReader(`{"model":"tiny","messages":[{"role":"user","content":"hi"}],"stream":true,"max_tokens":2}`))
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			rows = append(rows, <-seen.rows)
		}
		first, second := rows[0], rows[1]
		t.Logf("%s: load %+v and queue %+v us, then %+v and %+v", name, first.LoadUs, first.QueueUs, second.LoadUs, second.QueueUs)
		// A load of some tenths of a second can end before a router is asked.
		if name == "sleeps" && (!first.LoadUs.Valid || first.LoadUs.V < first.QueueUs.V) || second.LoadUs.Valid || first.Outcome != meter.OK {
			t.Errorf("%s: %+v\n%+v", name, first, second)
		}
		if err := srv.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
