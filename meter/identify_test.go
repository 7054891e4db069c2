package meter_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"wattline/meter"
)

// person is a request in which everything that identifies a person is a word with "secret" in it.
func person(name string) []byte {
	for k, v := range map[string]string{
		"User-Agent":          "claude-cli/2.1.0 (external, cli)",
		"X-Session-Affinity":  "secret-session",
		"X-OpenWebUI-Chat-Id": "secret-chat",
		"X-OpenWebUI-User-Id": "secret-user",
		"Authorization":       "bearer sk-secret-key",
		"X-Request-Id":        "req-1",
		"Traceparent":         "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		"X-Wattline-Labels":   "team=red, env = prod,broken,=x,team=blue",
	} {
		if strings.EqualFold(k, name) {
			return []byte(v)
		}
	}
	return nil
}

func TestIdentifyHash(t *testing.T) {
	id := meter.Identify{Key: []byte("install")}
	var a, b meter.Record
	id.Fill(&a, person, "192.0.2.7:40000")
	id.Fill(&b, person, "192.0.2.7:50000")
	if a.ClientAddr != b.ClientAddr || a.Session != b.Session || a.User != b.User || a.APIKeyID != b.APIKeyID {
		t.Error("the same person gives two hashes")
	}
	if a.Agent != "claude-code" || a.ClientRequestID != "req-1" || a.TraceID != "4bf92f3577b34da6a3ce929d0e0e4736" || fmt.Sprint(a.Labels) != "map[env:prod team:blue]" {
		t.Errorf("agent %q, request %q, trace %q, labels %v", a.Agent, a.ClientRequestID, a.TraceID, a.Labels)
	}
	seen := map[string]bool{}
	for _, h := range []string{a.Session, a.User, a.APIKeyID, a.ClientAddr} {
		if len(h) != 16 || strings.Trim(h, "0123456789abcdef") != "" || seen[h] {
			t.Errorf("hash %q, before %v", h, seen)
		}
		seen[h] = true
	}
	if row, _ := json.Marshal(&a); strings.Contains(string(row), "secret") || strings.Contains(string(row), "192.0.2") {
		t.Errorf("plain text in %s", row)
	}
	other := meter.Identify{Key: []byte("another install")}
	other.Fill(&b, person, "192.0.2.7:1")
	if a.User == b.User {
		t.Error("two installations give the same hash")
	}
	keyless := meter.Identify{}
	keyless.Fill(&b, person, "192.0.2.7:1")
	if b.User != "" || b.Session != "" || b.APIKeyID != "" || b.ClientAddr != "" {
		t.Errorf("without a key: %+v", b)
	}
}

func TestIdentifyPlainAndNone(t *testing.T) {
	id := meter.Identify{Mode: meter.IdentifyPlain, Key: []byte("install"), SessionHeaders: []string{"X-Missing", "X-OpenWebUI-Chat-Id", "X-Session-Affinity"}}
	var r meter.Record
	id.Fill(&r, person, "[2001:db8::7]:40000")
	if r.Session != "secret-chat" || r.User != "secret-user" || r.ClientAddr != "2001:db8::7" || len(r.APIKeyID) != 16 {
		t.Errorf("plain: session %q user %q address %q key %q", r.Session, r.User, r.ClientAddr, r.APIKeyID)
	}
	id.Mode = meter.IdentifyNone
	r = meter.Record{Labels: map[string]string{"route": "own"}}
	id.Fill(&r, func(name string) []byte {
		if strings.HasPrefix(name, "X-Wattline") {
			return nil
		}
		return person(name)
	}, "unix")
	if r.Session+r.User+r.ClientAddr+r.APIKeyID != "" || r.Agent == "" || r.Labels["route"] != "own" {
		t.Errorf("none: %+v", r)
	}
}

// TestUserOfTheBody: what the body says of the user reaches the row only as Identify allows.
func TestUserOfTheBody(t *testing.T) {
	hash := &meter.Identify{Key: []byte("install")}
	plain := &meter.Identify{Mode: meter.IdentifyPlain}
	var known meter.Record
	hash.Fill(&known, person, "")
	for _, c := range []struct {
		name, body string
		id         *meter.Identify
		before     string
		want       string
	}{
		{"hash", `{"user":"secret-user"}`, hash, "", known.User},
		{"hash of metadata", `{"metadata":{"user_id":"secret-user","x":{"user_id":"no"}}}`, hash, "", known.User},
		{"user before metadata", `{"metadata":{"user_id":"other"},"user":"secret-user"}`, hash, "", known.User},
		{"header wins", `{"user":"other"}`, hash, "from the header", "from the header"},
		{"plain", `{"user":"secret-user"}`, plain, "", "secret-user"},
		{"none", `{"user":"secret-user"}`, &meter.Identify{Mode: meter.IdentifyNone, Key: []byte("k")}, "", ""},
		{"nobody to ask", `{"user":"secret-user"}`, nil, "", ""},
		{"not a string", `{"user":17}`, plain, "", ""},
		{"deeper", `{"x":{"user":"secret-user"}}`, plain, "", ""},
	} {
		var m meter.Meter
		m.BeginRequest(meter.RequestHead{Path: chat, Identify: c.id})
		m.RequestBody([]byte(c.body))
		rec := meter.Record{User: c.before}
		m.Fill(&rec, meter.Marks{}, false)
		if rec.User != c.want {
			t.Errorf("%s: user %q, want %q", c.name, rec.User, c.want)
		}
		observations, _ := json.Marshal(m.Observations())
		if row, _ := json.Marshal(&rec); c.id != plain && strings.Contains(string(row)+string(observations), "secret") {
			t.Errorf("%s: plain text in %s %s", c.name, row, observations)
		}
		m.BeginRequest(meter.RequestHead{Path: chat, Identify: plain})
		rec = meter.Record{}
		m.Fill(&rec, meter.Marks{}, false)
		if rec.User != "" {
			t.Errorf("%s: the next exchange has its user %q", c.name, rec.User)
		}
	}
}

func TestIdentityIsBounded(t *testing.T) {
	long := strings.Repeat("x", 10_000)
	header := func(v string) func(string) []byte { return func(string) []byte { return []byte(v) } }
	id := meter.Identify{Mode: meter.IdentifyPlain}
	var r meter.Record
	id.Fill(&r, header(long), long)
	for _, s := range []string{r.Agent, r.Session, r.User, r.ClientRequestID} {
		if len(s) != 256 {
			t.Errorf("%d bytes kept", len(s))
		}
	}
	var many strings.Builder
	for i := range 100 {
		fmt.Fprintf(&many, "k%d=v,", i)
	}
	for v, want := range map[string]int{
		many.String(): 16, long + "=v": 0, "k=" + long: 0, "k=\xff": 0, "k=\x07": 0, "k=": 1, ",,=,": 0, "a=b=c": 1,
	} {
		r = meter.Record{}
		id.Fill(&r, header(v), "")
		if len(r.Labels) != want {
			t.Errorf("%d labels of %.40q, want %d", len(r.Labels), v, want)
		}
	}
	for addr, want := range map[string]string{"192.0.2.7:80": "192.0.2.7", "[2001:db8::7]:80": "2001:db8::7", "2001:db8::7": "2001:db8::7", "@": "@", "": "", "::1": "::1", ":80": ""} {
		id.Fill(&r, header(""), addr)
		if r.ClientAddr != want {
			t.Errorf("address %q kept as %q, want %q", addr, r.ClientAddr, want)
		}
	}
	for _, bad := range []string{"", "x", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"} {
		r = meter.Record{}
		id.Fill(&r, header(bad), "")
		if r.TraceID != "" {
			t.Errorf("traceparent %q gives %q", bad, r.TraceID)
		}
	}
}

// TestEqualValuesHashDifferently: a user, a session and a key of the same name must not be seen to be equal.
func TestEqualValuesHashDifferently(t *testing.T) {
	id := meter.Identify{Key: []byte("install")}
	var r meter.Record
	id.Fill(&r, func(name string) []byte {
		switch name {
		case "X-Wattline-Session", "X-OpenWebUI-User-Id", "X-Api-Key":
			return []byte("alice")
		}
		return nil
	}, "alice")
	hashes := map[string]bool{r.Session: true, r.User: true, r.APIKeyID: true, r.ClientAddr: true}
	if len(hashes) != 4 {
		t.Errorf("session %s, user %s, key %s and address %s of one name share a hash", r.Session, r.User, r.APIKeyID, r.ClientAddr)
	}
}

// TestDefaultSessionHeaders: each of the default headers names the session, the first present wins.
func TestDefaultSessionHeaders(t *testing.T) {
	id := meter.Identify{Mode: meter.IdentifyPlain}
	names := meter.DefaultSessionHeaders()
	if len(names) != 9 {
		t.Errorf("default headers: %v", names)
	}
	for i := range names {
		var r meter.Record
		id.Fill(&r, func(name string) []byte {
			if slices.Contains(names[i:], name) {
				return []byte(name)
			}
			return nil
		}, "")
		if r.Session != names[i] {
			t.Errorf("of the headers %v the session is %q", names[i:], r.Session)
		}
	}
}
