package client

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"wattline/meter"
	"wattline/replay"
)

// adminListener answers as wattline's admin listener does.
type adminListener struct {
	rows    []*meter.Record
	pending int // so many times, energies are pending
	asked   int
	longest int // ids in one question
}

func (l *adminListener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/api/inflight":
		fmt.Fprint(w, `[{"id":"a"},{"id":"b"}]`)
	case "/api/requests":
		ids := r.URL.Query()["id"]
		if len(ids) == 0 {
			_ = json.NewEncoder(w).Encode(l.rows)
			return
		}
		l.asked++
		l.longest = max(l.longest, len(ids))
		var out []*meter.Record
		for _, row := range l.rows {
			for _, id := range ids {
				if row.ID == id {
					copied := *row
					if l.asked <= l.pending {
						copied.EnergyQuality = meter.EnergyPending
					}
					out = append(out, &copied)
				}
			}
		}
		_ = json.NewEncoder(w).Encode(out)
	default:
		http.NotFound(w, r)
	}
}

func TestJoin(t *testing.T) {
	l := &adminListener{pending: 2}
	var list []*replay.Exchange
	for i := range 120 {
		id := fmt.Sprintf("row-%d", i)
		l.rows = append(l.rows, &meter.Record{ID: id, EnergyQuality: meter.EnergyMeasured, GPUUj: meter.Some(int64(i))})
		list = append(list, &replay.Exchange{RowID: id})
	}
	list = append(list, &replay.Exchange{}) // one without a row
	srv := httptest.NewServer(l)
	defer srv.Close()
	a, err := NewAdmin(Config{Endpoint: srv.URL, Agent: "test", RunID: "r1"})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.Join(t.Context(), list, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	for i, e := range list[:120] {
		if e.InLine == nil || e.InLine.GPUUj != meter.Some(int64(i)) || e.InLine.EnergyQuality != meter.EnergyMeasured {
			t.Fatalf("row %d: %+v", i, e.InLine)
		}
	}
	if list[120].InLine != nil || l.longest > idsPerQuestion || l.asked < 4 {
		t.Errorf("%d questions, the longest for %d ids", l.asked, l.longest)
	}
	if n, err := a.InFlight(t.Context()); n != 2 || err != nil {
		t.Errorf("%d in flight (%v)", n, err)
	}
	if p, err := a.Energy(t.Context(), time.Now(), time.Now()); err != nil || len(p.Samples) != 0 {
		t.Errorf("a wattline without /api/energy: %+v, %v", p, err)
	}
}

func TestJoinTimeout(t *testing.T) {
	l := &adminListener{rows: []*meter.Record{{ID: "x"}}, pending: 1 << 30}
	srv := httptest.NewServer(l)
	defer srv.Close()
	a, _ := NewAdmin(Config{Endpoint: srv.URL, Agent: "test", RunID: "r1"})
	defer a.Close()
	list := []*replay.Exchange{{RowID: "x"}, {RowID: "missing"}}
	if err := a.Join(t.Context(), list, 10*time.Millisecond); err != nil || list[0].InLine == nil || list[1].InLine != nil {
		t.Errorf("%v; %+v", err, list[0].InLine)
	}
}

func TestOtherTraffic(t *testing.T) {
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	row := func(offset time.Duration, label, dialect string) *meter.Record {
		r := &meter.Record{StartedAt: at.Add(offset), DurationUs: meter.Some(1e6), Dialect: dialect, Agent: "curl", Path: "/v1/chat/completions"}
		if label != "" {
			r.Labels = map[string]string{"replay": label}
		}
		return r
	}
	l := &adminListener{rows: []*meter.Record{
		row(70*time.Second, "", "chat"),        // afterwards
		row(30*time.Second, "r1", "chat"),      // ours
		row(20*time.Second, "", ""),            // no tokens: a health check
		row(10*time.Second, "r2", "chat"),      // another replay
		row(-500*time.Millisecond, "", "chat"), // still under way when we began
		row(-2*time.Second, "", "chat"),        // over before
	}}
	srv := httptest.NewServer(l)
	defer srv.Close()
	a, _ := NewAdmin(Config{Endpoint: srv.URL, Agent: "test", RunID: "r1"})
	defer a.Close()
	got, err := a.OtherTraffic(t.Context(), at, at.Add(time.Minute))
	if err != nil || len(got) != 2 || got[0] != "curl /v1/chat/completions" {
		t.Errorf("%v (%v), want two", got, err)
	}
}

func TestSameHost(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"http://gpu:11433", "https://GPU:11435", true},
		{"http://127.0.0.1:11433", "http://localhost:1", true},
		{"http://[::1]:11433", "http://127.0.0.1:1", true},
		{"unix:///run/a", "http://127.0.0.1:1", true},
		{"http://gpu:11433", "unix:///run/a", false},
		{"http://gpu:11433", "http://evil:11433", false},
		{"http://gpu:11433", "http://gpu@evil:11433", false},
		{"http://gpu:11433", "http://gpu.evil:11433", false},
		{"http://gpu:11433", "http://127.0.0.1:11433", false},
	} {
		if SameHost(c.a, c.b) != c.same {
			t.Errorf("%s, %s: want %v", c.a, c.b, c.same)
		}
	}
}
