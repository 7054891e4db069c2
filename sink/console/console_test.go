package console_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"wattline/meter"
	"wattline/sink/console"
)

const (
	there  = "01a2217f-90fb-79e3-a1ee-e61802a80a1b"
	coming = "01a2217f-90fb-79e3-a1ee-e61802a80a1c" // found from the third look on
	never  = "01a2217f-90fb-79e3-a1ee-e61802a80a1d"
)

// shelf has one row, and another from the third lookup on.
type shelf struct{ looks atomic.Int64 }

func (s *shelf) Find(_ context.Context, id string) (*meter.Record, error) {
	switch looks := s.looks.Add(1); {
	case id == there, id == coming && looks >= 3:
		return &meter.Record{ID: id}, nil
	case id == "broken":
		return nil, errors.New("the disk fails")
	case id == "01a2":
		return nil, ambiguous{errors.New("several requests match")}
	}
	return nil, nil //nolint:nilnil // as the store says that there is none
}

type ambiguous struct{ error }

func (ambiguous) Ambiguous() bool { return true }

// What is not there is left out or a 404, never a null; what cannot be read is no absence; a whole id is
// looked for again, as its row may be on its way, a part of one is not.
func TestMissingRows(t *testing.T) {
	for _, c := range []struct {
		path   string
		late   error
		status int
		body   string // its beginning; a whole line where it ends with one
		looks  int64  // 0: any number
	}{
		{"/api/requests?id=" + there + "&id=" + never, nil, 200, `[{"id":"` + there, 2},
		{"/api/requests?id=" + never, nil, 200, "[]\n", 1},
		{"/api/requests?id=" + never + "&id=nix&id=", errors.New("rows wait"), 200, "[]\n", 3},
		{"/api/requests?id=" + there + "&id=broken", nil, 500, `{"error":"the disk fails"}`, 2},
		{"/api/requests?id=" + there + "&limit=3", nil, 400, `{"error":"id stands alone`, 0},
		{"/api/requests?id=01a2", nil, 400, `{"error":"several requests match"}`, 1},
		{"/api/requests/" + there, nil, 200, `{"id":"` + there, 1},
		{"/api/requests/" + there, errors.New("rows wait"), 200, `{"id":"` + there, 1},
		{"/api/requests/" + coming, nil, 200, `{"id":"` + coming, 3},
		{"/api/requests/" + never, nil, 404, `{"error":"no request has this id"}`, 0},
		{"/api/requests/" + never, errors.New("rows wait"), 503, `{"error":"no stored request has this id, and rows are waiting`, 1},
		{"/api/requests/nix", nil, 404, `{"error":"no request has this id"}`, 1},
		{"/api/requests/01a2", nil, 400, `{"error":"several requests match"}`, 1},
		{"/api/requests/broken", nil, 500, `{"error":"the disk fails"}`, 1},
	} {
		rows := &shelf{}
		url := serve(t, console.Config{Rows: rows, Flush: func(context.Context) error { return c.late }, Log: slog.New(slog.DiscardHandler)})
		status, body := get(t, url+c.path)
		if status != c.status || !strings.HasPrefix(body, c.body) || strings.Contains(body, "[null") || strings.Contains(body, ",null]") {
			t.Errorf("%s (late: %v): %d %s", c.path, c.late, status, body)
		}
		if looks := rows.looks.Load(); c.looks != 0 && looks != c.looks {
			t.Errorf("%s (late: %v): %d looks, not %d", c.path, c.late, looks, c.looks)
		}
	}
}

func serve(t *testing.T, cfg console.Config) (url string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := console.New(cfg)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }() // ends with Shutdown
	t.Cleanup(func() {
		if err := errors.Join(s.Shutdown(context.Background()), <-served); err != nil {
			t.Error(err)
		}
	})
	return "http://" + ln.Addr().String()
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true // else Shutdown waits for the idle connection
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}
