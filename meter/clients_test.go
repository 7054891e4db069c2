package meter_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"wattline/meter"
)

// clientCapture is the head and body of a real client's request, their shape only: prompts are replaced.
type clientCapture struct {
	Client  string            `json:"client"`
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Headers map[string]string `json:"headers"`
	Body    json.RawMessage   `json:"body"`
	Agent   string            `json:"agent"`   // want
	Session string            `json:"session"` // want: the text, "inferred", or ""
	User    string            `json:"user"`    // want
	Turn    int               `json:"turn"`    // of a conversation of two turns; 0: it stands alone
}

func lookUp(headers map[string]string) func(string) []byte {
	return func(name string) []byte {
		for k, v := range headers {
			if strings.EqualFold(k, name) {
				return []byte(v)
			}
		}
		return nil
	}
}

// row lets a meter read a request, its body in two pieces, and a reply.
func row(t *testing.T, id *meter.Identify, method, path string, headers map[string]string, body string) *meter.Record {
	t.Helper()
	m := new(meter.Meter)
	rec := &meter.Record{Method: method, Path: path, Outcome: meter.OK}
	id.Fill(rec, lookUp(headers), "192.0.2.7:1")
	m.BeginRequest(meter.RequestHead{Method: method, Path: path, Header: lookUp(headers), Identify: id})
	for cut := len(body) / 3; len(body) > 0; body = body[cut:] {
		cut = min(max(cut, 1), len(body))
		m.RequestBody([]byte(body[:cut]))
	}
	m.BeginReply(meter.ReplyHead{Status: 200, Header: lookUp(map[string]string{"Content-Type": "application/json"})})
	m.ReplyBody([]byte(`{"choices":[]}`), 1, 1)
	m.Fill(rec, meter.Marks{P0: 1, R: 1, P1: 1, H: 1, E: 2}, true)
	return rec
}

func from(rec *meter.Record) string {
	if rec.Details == nil {
		return ""
	}
	return rec.Details.SessionSource
}

// TestClients: agent, session and user of requests as real clients send them.
func TestClients(t *testing.T) {
	text, err := os.ReadFile("testdata/clients.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []clientCapture
	if err := json.Unmarshal(text, &all); err != nil || len(all) < 10 {
		t.Fatalf("%d captures, %v", len(all), err)
	}
	id := &meter.Identify{Mode: meter.IdentifyPlain, Key: []byte("install")}
	first := map[string]string{} // sessions of first turns, by client
	for _, c := range all {
		rec := row(t, id, c.Method, c.Path, c.Headers, string(c.Body))
		if c.Turn == 1 {
			first[c.Client] = rec.Session
		}
		if c.Turn == 2 && (rec.Session == "" || rec.Session != first[c.Client]) {
			t.Errorf("%s: the second turn is of session %q, the first of %q", c.Client, rec.Session, first[c.Client])
		}
		got := rec.Session
		if from(rec) == meter.SessionInferred {
			got = meter.SessionInferred
		}
		if rec.Agent != c.Agent || got != c.Session || rec.User != c.User {
			t.Errorf("%s %s: agent %q, session %q, user %q; want %q, %q, %q", c.Client, c.Path, rec.Agent, got, rec.User, c.Agent, c.Session, c.User)
		}
	}
}

// TestSessionInBody: which member of a body names the session, and what is left of Claude Code's user.
func TestSessionInBody(t *testing.T) {
	id := &meter.Identify{Mode: meter.IdentifyPlain, Key: []byte("install")}
	for _, c := range []struct{ path, body, session, user string }{
		{"/v1/responses", `{"input":"x","prompt_cache_key":"c","client_metadata":{"session_id":"s"}}`, "s", ""},
		{"/v1/responses", `{"prompt_cache_key":"c","input":"x"}`, "c", ""},
		{"/v1/chat/completions", `{"metadata":{"session_id":"s","user_id":"ann"},"prompt_cache_key":"c"}`, "s", "ann"},
		{"/v1/chat/completions", `{"prompt_cache_key":"c","session_id":"s","user":"bob"}`, "s", "bob"},
		{"/v1/messages", `{"metadata":{"user_id":"{\"device_id\":\"dev\",\"account_uuid\":\"\",\"session_id\":\"s\"}"}}`, "s", "dev"},
		{"/v1/messages", `{"metadata":{"user_id":"{\"device_id\":\"dev\",\"account_uuid\":\"acc\",\"session_id\":\"s\"}"}}`, "s", "acc"},
		{"/v1/messages", `{"metadata":{"user_id":"user_ab12_account__session_77-88"}}`, "77-88", "user_ab12"},
		{"/v1/messages", `{"metadata":{"user_id":"user_ab12_account_cc_session_77-88"}}`, "77-88", "user_ab12_account_cc"},
		{"/v1/messages", `{"metadata":{"user_id":"{not json"}}`, "", "{not json"},
		{"/v1/messages", `{"metadata":{"user_id":"ann_session_1"}}`, "", "ann_session_1"},
	} {
		rec := row(t, id, "POST", c.path, nil, c.body)
		if rec.Session != c.session || rec.User != c.user {
			t.Errorf("%s: session %q, user %q, want %q, %q", c.body, rec.Session, rec.User, c.session, c.user)
		}
	}
	hashed := row(t, &meter.Identify{Key: []byte("install")}, "POST", "/v1/chat/completions", nil, `{"session_id":"secret","user":"secret"}`)
	if len(hashed.Session) != 16 || len(hashed.User) != 16 {
		t.Errorf("in mode hash: session %q, user %q", hashed.Session, hashed.User)
	}
	if none := row(t, &meter.Identify{Mode: meter.IdentifyNone}, "POST", "/v1/chat/completions", nil, `{"session_id":"s","messages":[{"content":"x"}]}`); none.Session != "" {
		t.Errorf("in mode none: session %q", none.Session)
	}
}

// TestNamedSessions: headers and members that the configuration names, beside the known ones and instead of them.
func TestNamedSessions(t *testing.T) {
	body := `{"metadata":{"chat":{"id":"m"},"user_id":"ann"},"user":"ann","seed":7,"messages":[{"role":"user","content":[{"type":"image_url"}]}]}`
	for _, c := range []struct {
		names   []string
		headers map[string]string
		session string
	}{
		{nil, map[string]string{"X-Session-Id": "known"}, "known"},
		{[]string{"X-Mine"}, map[string]string{"X-Session-Id": "known", "X-Mine": "mine"}, "mine"},
		{[]string{"X-Mine"}, map[string]string{"X-Session-Id": "known"}, "known"},
		{[]string{"only", "X-Mine"}, map[string]string{"X-Session-Id": "known"}, "inferred"},
		{[]string{"body:metadata.chat.id"}, nil, "m"},
		{[]string{"body:metadata.user_id"}, nil, "ann"},
		{[]string{"body:user"}, nil, "ann"},
		{[]string{"body:messages", "body:seed", "body:user"}, nil, "ann"},
		{[]string{"body:metadata.chat.id"}, map[string]string{"X-Session-Id": "known"}, "known"},
	} {
		id := &meter.Identify{Mode: meter.IdentifyPlain}
		if err := id.NameSessions(c.names); err != nil {
			t.Fatal(err)
		}
		rec := row(t, id, "POST", "/v1/chat/completions", c.headers, body)
		if got := firstOf(from(rec), rec.Session); got != c.session || rec.User != "ann" || rec.Details.Seed.V != 7 || rec.Details.Images.V != 1 || rec.Messages.V != 1 {
			t.Errorf("%v, %v: session %q, want %q; %+v", c.names, c.headers, got, c.session, rec.Details)
		}
	}
	for _, bad := range []string{"", "body:", "body:a..b", "a b", "X-A:"} {
		if err := new(meter.Identify).NameSessions([]string{bad}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// TestInferredSessions: a request continues the longest earlier one of its client with whose messages it begins.
func TestInferredSessions(t *testing.T) {
	id := &meter.Identify{Key: []byte("install")}
	ask := func(agent string, messages ...string) string {
		list := make([]string, len(messages))
		for i, m := range messages {
			list[i] = fmt.Sprintf(`{"role":"user","content":%q}`, m)
		}
		rec := row(t, id, "POST", "/v1/chat/completions", map[string]string{"User-Agent": agent}, `{"messages":[`+strings.Join(list, ", ")+`],"stream":false}`)
		if from(rec) != meter.SessionInferred || !strings.HasPrefix(rec.Session, "inferred-") {
			t.Fatalf("%v: session %q from %q", messages, rec.Session, from(rec))
		}
		return rec.Session
	}
	a := ask("x", "system", "fix the test")
	if got := ask("x", "system", "fix the test", "done", "and the next"); got != a {
		t.Errorf("the second turn is in %s, the first in %s", got, a)
	}
	if got := ask("x", "system", "fix the test", "done", "and the next", "ok", "and on"); got != a {
		t.Errorf("the third turn is in %s, the first in %s", got, a)
	}
	b := ask("x", "system", "another task")
	if b == a {
		t.Error("another task of the same client is in its first session")
	}
	if got := ask("y", "system", "fix the test", "done", "and the next"); got == a {
		t.Error("another client's request is in the first one's session")
	}
	fork := ask("x", "system", "fix the test", "done", "not so")
	if fork != a {
		t.Errorf("a turn taken anew is in %s, want %s", fork, a)
	}
	if got := ask("x", "system", "fix the test "); got == a {
		t.Error("a message that differs by a space is the same")
	}
	if rec := row(t, id, "POST", "/v1/embeddings", nil, `{"input":["a"]}`); rec.Session != "" {
		t.Errorf("an embedding has the session %q", rec.Session)
	}
	for n := range 5000 { // more than are remembered
		ask("x", "system", fmt.Sprint("task ", n))
	}
	if got := ask("x", "system", "fix the test", "done", "and the next", "ok", "and on", "", "more"); got == a {
		t.Error("the first session is remembered for ever")
	}
}

// TestAgentRules: names that the configuration gives, by key, header, address, program and route, in this order.
func TestAgentRules(t *testing.T) {
	key := func() string {
		var r meter.Record
		(&meter.Identify{Key: []byte("install")}).Fill(&r, lookUp(map[string]string{"Authorization": "Bearer k1"}), "")
		return r.APIKeyID
	}()
	rules, err := meter.ParseAgentRules(map[string]string{
		"by-key": "key:" + key, "by-header": "header:X-Team=ci", "by-address": "address:10.0.0.0/8", "by-program": "user-agent:curl/8", "by-route": "route:small", "one": "address:192.0.2.9",
	})
	if err != nil {
		t.Fatal(err)
	}
	id := &meter.Identify{Key: []byte("install"), Agents: rules}
	for _, c := range []struct {
		headers              map[string]string
		address, route, want string
	}{
		{map[string]string{"Authorization": "Bearer k1", "X-Team": "ci"}, "10.1.2.3:5", "small", "by-key"},
		{map[string]string{"Authorization": "Bearer k2", "X-Team": "ci"}, "10.1.2.3:5", "small", "by-header"},
		{map[string]string{"User-Agent": "curl/8.1"}, "10.1.2.3:5", "small", "by-address"},
		{map[string]string{"User-Agent": "curl/8.1"}, "192.0.2.9:5", "small", "one"},
		{map[string]string{"User-Agent": "curl/8.1"}, "[::ffff:10.1.2.3]:5", "", "by-address"},
		{map[string]string{"User-Agent": "curl/8.1"}, "192.0.2.8:5", "small", "by-program"},
		{map[string]string{"User-Agent": "curl/7.1"}, "unix", "small", "by-route"},
		{map[string]string{"User-Agent": "curl/7.1"}, "192.0.2.8:5", "large", "curl"},
	} {
		rec := meter.Record{Route: c.route}
		if id.Fill(&rec, lookUp(c.headers), c.address); rec.Agent != c.want {
			t.Errorf("%v from %s on %s is %q, want %q", c.headers, c.address, c.route, rec.Agent, c.want)
		}
	}
	for _, bad := range []string{"", "key", "key:", "colour:red", "header:X-Team", "address:ten"} {
		if _, err := meter.ParseAgentRules(map[string]string{"a": bad}); err == nil || !strings.Contains(err.Error(), `"a"`) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestAgentNames: names of programs behind libraries, on one connection.
func TestAgentNames(t *testing.T) {
	var known meter.ConnIdentity
	id := &meter.Identify{}
	for _, c := range []struct {
		headers map[string]string
		want    string
	}{
		{map[string]string{"User-Agent": "OpenAI/JS 6.1"}, "openai-sdk"},
		{map[string]string{"User-Agent": "OpenAI/JS 6.1", "session_id": "s"}, "pi"},
		{map[string]string{"User-Agent": "OpenAI/JS 6.1"}, "openai-sdk"},
		{map[string]string{"User-Agent": "OpenAI/JS 6.1", "X-Title": "Roo Code"}, "roo-code"},
		{map[string]string{"User-Agent": "claude-cli/2.1", "X-Title": "x"}, "claude-code"},
		{map[string]string{"User-Agent": "codex_cli_rs/0.1 (x)"}, "codex"},
		{map[string]string{"User-Agent": "curl/8"}, "curl"},
		{nil, ""},
	} {
		var rec meter.Record
		if id.FillCached(&rec, lookUp(c.headers), "", &known); rec.Agent != c.want {
			t.Errorf("%v is %q, want %q", c.headers, rec.Agent, c.want)
		}
	}
}
