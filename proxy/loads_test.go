package proxy

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wattline/meter"
	"wattline/proxy/stub"
)

// TestLoads: an upstream that sleeps is asked until it says so, and the request that wakes it has load_us. One that does not
// tell is not asked again. A router is asked while a request waits.
func TestLoads(t *testing.T) {
	const load = 8 * time.Second
	for name, c := range map[string]struct {
		state       meter.LoadState
		err         error
		loads, asks int64 // us; in the ten minutes before the request, and then
	}{
		"sleeps":         {meter.LoadState{Asleep: true}, nil, load.Microseconds(), 1},
		"awake":          {meter.LoadState{}, nil, 0, 15},
		"does not tell":  {meter.LoadState{}, errors.New("404"), 0, 1},
		"router, loaded": {meter.LoadState{Router: true}, nil, 0, 15 + 10},
		"router":         {meter.LoadState{Router: true, Loading: []string{"asked"}}, nil, load.Microseconds(), 15 + 32},
	} {
		synctest.Test(t, func(t *testing.T) {
			var asks atomic.Int64
			up := stub.New(stub.Config{HeaderDelay: load, FirstToken: load + time.Second, PingInterval: -1})
			f, dial := bubbleFront(t, stubOn(t, up), func(cfg *Config) {
				cfg.Loads = func(context.Context) (meter.LoadState, error) {
					asks.Add(1)
					return c.state, c.err
				}
			})
			time.Sleep(10 * time.Minute)
			nc := dial()
			defer nc.Close()
			send(t, nc, postOf("/v1/chat/completions", "first", `{"model":"asked","messages":[],"stream":true,"max_tokens":2}`))
			readReply(t, bufio.NewReader(nc), http.MethodPost)
			rec := f.rows.row(t, "first")
			if rec.LoadUs.V != c.loads || rec.LoadUs.Valid != (c.loads > 0) || rec.QueueUs != meter.Some(load.Microseconds()-c.loads) {
				t.Errorf("%s: load %+v, queue %+v", name, rec.LoadUs, rec.QueueUs)
			}
			if got := asks.Load(); got < c.asks-1 || got > c.asks+1 {
				t.Errorf("%s: asked %d times, want %d", name, got, c.asks)
			}
		})
	}
}

// TestRouterLooksAtNewRequests: a router that makes one request wait for no load is looked at seldom, and soon when another
// request comes.
func TestRouterLooksAtNewRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asks atomic.Int64
		up := stub.New(stub.Config{HeaderDelay: 20 * time.Second, FirstToken: 21 * time.Second, PingInterval: -1})
		_, dial := bubbleFront(t, stubOn(t, up), func(cfg *Config) {
			cfg.Loads = func(context.Context) (meter.LoadState, error) {
				asks.Add(1)
				return meter.LoadState{Router: true}, nil
			}
		})
		time.Sleep(time.Minute)
		for i, id := range []string{"first", "second"} {
			nc := dial()
			defer nc.Close()
			send(t, nc, postOf("/v1/chat/completions", id, `{"model":"asked","messages":[],"stream":true,"max_tokens":2}`))
			before := asks.Load()
			time.Sleep(waitLook + 10*time.Millisecond)
			if got := asks.Load() - before; got != 1 {
				t.Errorf("%d looks when request %d had waited, want 1", got, i+1)
			}
			time.Sleep(5500*time.Millisecond - waitLook)
		}
	})
}
