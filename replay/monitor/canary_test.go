package monitor

import (
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wattline/proxy/stub"
	"wattline/replay/session"
)

// TestCanaryKnowsNobody: a canary is not sent where the admin listener does not say who else has requests in flight, and one
// under way is broken off; the next line comes when the password is right again.
func TestCanaryKnowsNobody(t *testing.T) {
	var asked atomic.Int64
	admin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/api/inflight":
			if _, password, _ := r.BasicAuth(); password != "second" && asked.Add(1) != 2 {
				http.Error(w, "no", http.StatusInternalServerError)
				return
			}
			_, _ = w.Write([]byte("[]"))
		default:
			_, _ = w.Write([]byte("[]"))
		}
	}))
	defer admin.Close()
	server := stub.New(stub.Config{FirstToken: 300 * time.Millisecond, TokenGap: time.Millisecond})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(ln) }() // ends with Close
	defer server.Close()                 //nolint:errcheck // the test's
	password := "first"
	var lines []*Line
	err = Run(t.Context(), Config{
		Interval: 10 * time.Millisecond, Duration: time.Minute, Password: func() string { return password }, Say: func(string, ...any) {},
		Session: session.Config{
			Endpoint: "http://" + ln.Addr().String(), Admin: admin.URL, AdminPassword: password, Spec: CanarySpec(), Agent: "test", LoadTimeout: time.Second,
			Say: func(string, ...any) {}, Log: slog.New(slog.DiscardHandler),
		},
		Emit: func(l *Line) error {
			if lines = append(lines, l); len(lines) == 2 {
				password = "second"
			}
			if len(lines) == 3 {
				return errGaveWay // enough
			}
			return nil
		},
	})
	if len(lines) != 3 {
		t.Fatal(err, lines)
	}
	for i, l := range lines[:2] {
		if !strings.Contains(l.Skipped, "is not known") {
			t.Errorf("line %d: %+v", i, l)
		}
	}
	if l := lines[0]; l.CostS.Valid {
		t.Errorf("a canary was sent: %+v", l)
	}
	if l := lines[1]; !l.CostS.Valid {
		t.Errorf("no canary was broken off: %+v", l)
	}
	if l := lines[2]; strings.Contains(l.Skipped, "is not known") {
		t.Errorf("the new password was not used: %+v", l)
	}
}

// TestTurns: canaries of monitors that share a turn do not meet.
func TestTurns(t *testing.T) {
	admin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("[]")) }))
	defer admin.Close()
	var mu sync.Mutex // guards busy and met
	busy, met := map[int]int{}, false
	turn := make(chan struct{}, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	for route := range 3 {
		upstream := stub.New(stub.Config{FirstToken: 5 * time.Millisecond, TokenGap: 100 * time.Microsecond})
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = upstream.Serve(ln) }() // ends with Close
		defer upstream.Close()                 //nolint:errcheck // the test's
		proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: ln.Addr().String()})
		front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/completions") {
				mu.Lock()
				busy[route]++
				met = met || len(busy) > 1
				mu.Unlock()
				defer func() {
					mu.Lock()
					defer mu.Unlock()
					if busy[route]--; busy[route] == 0 {
						delete(busy, route)
					}
				}()
			}
			proxy.ServeHTTP(w, r)
		}))
		defer front.Close()
		wg.Go(func() {
			looks := 0
			err := Run(t.Context(), Config{
				Interval: 20 * time.Second, Duration: time.Minute, Turn: turn, Say: func(string, ...any) {},
				Session: session.Config{
					Endpoint: front.URL, Admin: admin.URL, Spec: CanarySpec(), Agent: "test", LoadTimeout: time.Second,
					Say: func(string, ...any) {}, Log: slog.New(slog.DiscardHandler),
				},
				Emit: func(l *Line) error {
					if l.Skipped != "" || l.Requests == 0 {
						t.Errorf("route %d: %+v", route, l)
					}
					looks++
					return errGaveWay // enough
				},
			})
			if looks != 1 {
				t.Errorf("route %d: %d looks, %v", route, looks, err)
			}
		})
	}
	wg.Wait()
	if met {
		t.Error("canaries of two routes met")
	}
}
