package top

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"wattline/sink/console"
)

// at is a time of the test's server, whose clock is an hour ahead of ours.
func at(s float64) time.Time {
	return time.Date(2026, 11, 30, 14, 0, 0, 0, time.UTC).Add(time.Duration(s * float64(time.Second)))
}

func stamp(s float64) string { return at(s).Format(time.RFC3339Nano) }

// script is what a server tells at 14:00:10: two slots held, one request waits, one has just ended.
func script() [][2]string {
	steps := func(n int64) string { return strings.TrimSuffix(strings.Repeat(fmt.Sprintf("%d,", n), 10), ",") }
	request := func(id, agent string, more string) [2]string {
		name, _ := json.Marshal(agent)
		return [2]string{"request", fmt.Sprintf(`{"id":%q,"route":"default","agent":%s,"session":null,"computes":true,"started_at":%q,%s}`, id, name, stamp(1), more)}
	}
	return [][2]string{
		{"hello", `{"now":"` + stamp(10) + `","routes":[{"route":"default","upstream":"http://up","url":"http://127.0.0.1:11433"}],"slots":{"default":2},
			"devices":[{"device":"GPU-0","name":"Bench","source":"sim","simulated":true,"power_limit_mw":700000}]}`},
		{"config", `{"upstream":"http://up","context_tokens":16384,"slots":2}`},
		{"row", `{"id":"r1","started_at":"` + stamp(-60) + `","output_tokens":100,"gpu_uj":40000000,"gpu_sigma_uj":3000000,"energy_source":"sim/x"}`},
		{"row", `{"id":"r2","started_at":"` + stamp(-50) + `","output_tokens":100,"gpu_uj":60000000,"gpu_sigma_uj":4000000,"energy_source":"sim/x"}`},
		{"row", `{"id":"r3","started_at":"` + stamp(-500) + `","output_tokens":1,"gpu_uj":900000000}`}, // too old
		{"row", `{"id":"r4","started_at":"` + stamp(-40) + `","output_tokens":100}`},                   // without joules
		{"power", `{"device":"GPU-0","from":"` + stamp(8) + `","step_us":100000,"mw":[` + steps(1) + `],"idle_mw":[` + steps(1) + `],"residual_mw":[` + steps(0) + `],"requests":{}}`},
		{"power", `{"device":"GPU-0","from":"` + stamp(9) + `","step_us":100000,"mw":[` + steps(300000) + `],"idle_mw":[` + steps(60000) + `],"residual_mw":[` + steps(5000) + `],
			"requests":{"a":[` + steps(150001) + `],"b":[` + steps(79999) + `],"gone":[0,0,0,0,0,10000,10000]}}`},
		request("a", "claude-code", `"stream":true,"slot":1,"prompt_tokens":8000,"phase":"decode","phases":[{"phase":"decode","at":"`+stamp(7)+`"}],"output_events":116,"events_per_second":38.5`),
		request("b", "cline", `"stream":true,"slot":0,"phase":"prefill","phases":[{"phase":"prefill","at":"`+stamp(8.5)+`"}]`),
		request("c", "evil\u001b[2J\u202e", `"stream":true,"phase":"queue","phases":[{"phase":"queue","at":"`+stamp(2)+`"}]`),
		request("d", "gone", `"stream":true,"phase":"decode","phases":[],"done":true`),
		{"request", `{"id":"h","route":"default","computes":false,"phase":"queue","started_at":"` + stamp(9) + `"}`},
		{"ready", `{}`},
	}
}

// told is a state that was told the script.
func told(t *testing.T) *state {
	t.Helper()
	s := newState()
	for _, e := range script() {
		if err := s.take(e[0], []byte(e[1]), at(10).Add(-time.Hour)); err != nil {
			t.Fatalf("%s: %v", e[0], err)
		}
	}
	return s
}

// TestView: the sums, the order, who waits behind whom, and what is unknown.
func TestView(t *testing.T) {
	s := told(t)
	v := s.view(at(10).Add(-time.Hour))
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"at":"2026-11-30T14:00:10Z","power_mw":300000,"idle_mw":60000,"residual_mw":8000,"ended_mw":2000,"simulated":true,` +
		`"tokens_per_second":38.5,"j_per_token":0.5,"j_per_token_sigma":0.025,"slots":2,"running":[` +
		`{"id":"b","route":"default","agent":"cline","session":null,"phase":"prefill","slot":0,"stream":true,"phase_us":1500000,"tokens_per_second":null,"output_events":0,"context_tokens":null,"context_limit":16384,"active_mw":79999},` +
		`{"id":"a","route":"default","agent":"claude-code","session":null,"phase":"decode","slot":1,"stream":true,"phase_us":3000000,"tokens_per_second":38.5,"output_events":116,"context_tokens":8116,"context_limit":16384,"active_mw":150001}],` +
		`"queue":[{"id":"c","route":"default","agent":"evil\u001b[2J` + "\u202e" + `","session":null,"phase":"queue","waited_us":8000000,"behind":[` +
		`{"id":"b","route":"default","agent":"cline","session":null,"phase":"prefill"},{"id":"a","route":"default","agent":"claude-code","session":null,"phase":"decode"}]}],` +
		`"devices":[{"device":"GPU-0","name":"Bench","source":"sim","simulated":true,"power_mw":300000,"idle_mw":60000,"power_limit_mw":700000}]}`
	if string(text) != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
	sum := v.IdleMw.V + v.ResidualMw.V + v.EndedMw.V
	for _, r := range v.Running {
		sum += r.ActiveMw.V
	}
	if sum != v.PowerMw.V {
		t.Errorf("the parts are %d mW, the whole is %d", sum, v.PowerMw.V)
	}

	// With a slot free a request waits behind prompts alone; power that is not told any more is unknown.
	if err := s.take("request", []byte(`{"id":"a","done":true}`), at(10)); err != nil {
		t.Fatal(err)
	}
	v = s.view(at(30).Add(-time.Hour))
	if q := v.Queue[0]; len(q.Behind) != 1 || *q.Behind[0].Agent != "cline" || v.PowerMw.Valid || v.Running[0].ActiveMw.Valid {
		t.Errorf("%+v", v)
	}
	if err := s.take("gap", []byte(`{"device":"GPU-0","to":null,"reason":"lost"}`), at(10)); err != nil {
		t.Fatal(err)
	}
	if d := s.view(at(30).Add(-time.Hour)).Devices[0]; d.Reason != "lost" || d.line() != "Bench: cannot be read: lost" {
		t.Errorf("%+v", d)
	}
}

// TestUnknownIdle: an idle draw of 0 is not known yet.
func TestUnknownIdle(t *testing.T) {
	s := told(t)
	err := s.take("power", []byte(`{"device":"GPU-0","from":"`+stamp(20)+`","step_us":1000000,"mw":[300000],"idle_mw":[0],"residual_mw":[300000]}`), at(21))
	if err != nil {
		t.Fatal(err)
	}
	v := s.view(at(21).Add(-time.Hour))
	if v.PowerMw.V == 0 || v.IdleMw.Valid || v.Devices[0].IdleMw.Valid || strings.Contains(v.power(), "idle 0") {
		t.Errorf("%+v: %s", v, v.power())
	}
}

// TestScreen: what a person sees, and that no name reaches the terminal raw.
func TestScreen(t *testing.T) {
	v := told(t).view(at(10).Add(-time.Hour))
	clock := at(10).Local().Format(time.TimeOnly)
	want := []string{
		"wattline top of 127.0.0.1:11435  " + clock + "  q quits",
		"38.5 tokens/s  0.5 ± 0.025 J/token SIMULATED (2 min)  2 of 2 slots  1 waiting",
		"300 W (idle 60 W, just ended 2 W, residual 8 W) SIMULATED",
		"Bench: 300 W of 700 W SIMULATED",
		"",
		"slot  agent        session  phase      for  tokens/s  out     context  W SIMULATED",
		"   0  cline        -        prefill  1.5 s         -    0           -           80",
		"   1  claude-code  -        decode   3.0 s      38.5  116  8.12k/16.4k         150",
		"",
		`queue  agent               session  waits  behind`,
		`1      evil\x1b[2J\u202e   -        8.0 s  cline (prefill), claude-code (decode)`,
	}
	got := v.screen("127.0.0.1:11435", "", 200)
	if len(got) != len(want) {
		t.Fatalf("%d lines:\n%s", len(got), strings.Join(got, "\n"))
	}
	for i := range want {
		if strings.Join(strings.Fields(got[i]), " ") != strings.Join(strings.Fields(want[i]), " ") {
			t.Errorf("line %d is\n%s\nwant\n%s", i, got[i], want[i])
		}
	}
	v.Devices[0].Name = "\x1b[H"
	for _, l := range slices.Concat(v.screen("x", "", 40), v.screen("\x1b", "\x1b]0;\x07", 40)) {
		if strings.ContainsAny(l, "\x1b\x07\u202e") || len([]rune(l)) > 40 {
			t.Errorf("%q", l)
		}
	}
	var b bytes.Buffer
	o := output{Config: Config{Out: &b}}
	v.Queue[0].Agent, v.Running[0].Agent = nil, v.Queue[0].Agent
	if err := o.show(v, ""); err != nil {
		t.Fatal(err)
	}
	if line := clock + `  300 W (idle 60 W, just ended 2 W, residual 8 W) SIMULATED  38.5 tokens/s  0.5 ± 0.025 J/token SIMULATED  2 of 2 slots  ` +
		`1 waiting (longest 8.0 s)  evil\x1b[2J\u202e prefill 80 W  claude-code decode 150 W` + "\n"; b.String() != line {
		t.Errorf("got\n%swant\n%s", b.String(), line)
	}
}

// TestRun: lines of a server, a successor that goes on, and what is said of servers that are none.
func TestRun(t *testing.T) {
	var body bytes.Buffer
	for _, e := range script() {
		fmt.Fprintf(&body, "event: %s\ndata: %s\n\n:\n\n", e[0], strings.ReplaceAll(e[1], "\n", " "))
	}
	var connections int
	live := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != "right one" {
			http.Error(w, `{"error":"a password is needed (--admin-password-file), with any user name"}`, http.StatusUnauthorized)
			return
		}
		if connections++; connections > 2 {
			http.Error(w, `{"error":"later"}`, http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = w.Write(body.Bytes())
		w.(http.Flusher).Flush()
		if connections == 2 {
			<-r.Context().Done()
		}
	}))
	defer live.Close()
	html := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }))
	defer html.Close()
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = w.Write([]byte("event: hello\ndata: {\"now\":7}\n\n"))
	}))
	defer broken.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := ln.Addr().String()
	_ = ln.Close()

	run := func(admin, password string, count int) (string, error) {
		var out bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := Run(ctx, Config{Out: &out, JSON: true, Count: count, Patience: time.Millisecond, Source: console.Probe{Admin: admin, Password: password, Timeout: time.Minute}})
		return out.String(), err
	}
	for _, c := range []struct{ admin, password, want string }{
		{dead, "", "no wattline answers at " + dead + " (--admin): connect: connection refused"},
		{live.URL, "", "401 Unauthorized: a password is needed (--admin-password-file), with any user name"},
		{live.URL, "wrong one", live.URL + " refuses the password: it must be the one of serve's --admin-password-file"},
		{html.URL, "", html.URL + " answers with text/html; charset=utf-8, not with events: is it wattline's admin listener?"},
		{broken.URL, "", broken.URL + " says of hello what cannot be read"},
	} {
		if out, err := run(c.admin, c.password, 1); err == nil || !strings.HasPrefix(err.Error(), c.want) || out != "" {
			t.Errorf("%s with %q: %q, %v", c.admin, c.password, out, err)
		}
	}
	out, err := run(live.URL, "right one", 2) // the first connection ends at once, the second stays
	if err != nil || strings.Count(out, "\n") != 2 || strings.Count(out, `"slots":2,`) != 2 {
		t.Errorf("%q, %v", out, err)
	}
	if out, err = run(live.URL, "right one", 1); err == nil || err.Error() != "503 Service Unavailable: later" || out != "" {
		t.Errorf("%q, %v", out, err)
	}
}
