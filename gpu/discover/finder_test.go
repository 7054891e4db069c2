package discover

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestFinderSharesOneSearch: all callers that ask for an upstream get the same process tree, after one lookup.
func TestFinderSharesOneSearch(t *testing.T) {
	f := NewFinder(open(t, golden(t)))
	var lookups int
	f.resolve = func(context.Context, string) ([]net.IPAddr, error) {
		lookups++
		return []net.IPAddr{{IP: net.IPv4(127, 0, 0, 1)}}, nil
	}
	var wg sync.WaitGroup
	got := make([]Upstream, 8)
	for i := range got {
		wg.Go(func() { got[i] = f.Upstream(context.Background(), "http://here:8080") })
	}
	wg.Wait()
	for _, up := range got {
		if !up.Local || up.Processes == nil || up.Processes != got[0].Processes {
			t.Errorf("%+v, the first got %+v", up, got[0])
		}
	}
	if lookups != 1 {
		t.Errorf("%d lookups", lookups)
	}
	if up := f.Upstream(context.Background(), "http://127.0.0.1:8080/v1"); up.Processes != got[0].Processes {
		t.Error("another URL of the same server is searched apart")
	}
	if up := f.Upstream(context.Background(), "http://127.0.0.1:9090"); up.Processes == got[0].Processes {
		t.Error("two servers share a process tree")
	}
}

// TestFinderOutsideThisMachine: what is elsewhere has no processes here, nor has a Unix socket's server.
func TestFinderOutsideThisMachine(t *testing.T) {
	f := NewFinder(open(t, golden(t)))
	for url, want := range map[string]Upstream{"http://192.0.2.7:8080": {}, "unix:///run/server.sock": {Local: true}, "http://127.0.0.1": {Local: true}} {
		if got := f.Upstream(context.Background(), url); got != want {
			t.Errorf("%s: %+v", url, got)
		}
	}
}

// TestLookupIsBounded: a name server that does not answer delays no caller for longer than lookupTimeout,
// nor again before searchEvery has passed; then it is asked again.
func TestLookupIsBounded(t *testing.T) {
	host := open(t, golden(t))
	synctest.Test(t, func(t *testing.T) {
		f := NewFinder(host)
		answers, lookups := false, 0
		f.resolve = func(ctx context.Context, _ string) ([]net.IPAddr, error) {
			lookups++
			if answers {
				return []net.IPAddr{{IP: net.IPv4(127, 0, 0, 1)}}, nil
			}
			<-ctx.Done()
			return nil, errors.New("no answer")
		}
		began := time.Now()
		for range 3 {
			if up := f.Upstream(t.Context(), "http://nowhere:8080"); up.Local {
				t.Errorf("%+v", up)
			}
		}
		if d := time.Since(began); d != lookupTimeout || lookups != 1 {
			t.Errorf("%d lookups took %v, want one of %v", lookups, d, lookupTimeout)
		}
		answers = true
		time.Sleep(searchEvery)
		if up := f.Upstream(t.Context(), "http://nowhere:8080"); !up.Local || up.Processes == nil {
			t.Errorf("after the name server is back: %+v", up)
		}
	})
}
