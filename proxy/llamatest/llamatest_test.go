package llamatest

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

var shared = Shared{Args: []string{"--metrics"}}

func TestMain(m *testing.M) { os.Exit(shared.Main(m)) }

func TestFreshServer(t *testing.T) {
	srv := Start(t, "-np", "2", "--alias", "tiny")
	slots := Slots(t, srv)
	if len(slots) != 2 || slots[1].ID != 1 || slots[0].NCtx != 4096 || Busy(slots) != 0 {
		t.Errorf("slots = %+v, want two idle ones of 4,096 tokens", slots)
	}
	props := ReadProps(t, srv)
	if props.TotalSlots != 2 || props.ModelAlias != "tiny" || props.BuildInfo == "" || props.Defaults.NCtx != 4096 || !props.EndpointSlots || props.EndpointMetrics {
		t.Errorf("props = %+v", props)
	}
}

func TestBusySlot(t *testing.T) {
	srv := Start(t, "-np", "1", "-c", "131072") // room for seconds of tokens
	body := `{"prompt":"hello","stream":true,"n_predict":1000000,"ignore_eos":true}`
	resp, err := http.Post(srv.URL()+"/completion", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	AwaitBusy(t, srv, 1, time.Minute)
	for _, s := range Slots(t, srv) {
		if s.IsProcessing && (len(s.NextToken) != 1 || !s.NextToken[0].HasNextToken || s.PromptTokens == 0) {
			t.Errorf("busy slot = %+v", s)
		}
	}
	if err := resp.Body.Close(); err != nil { // leaves mid-stream
		t.Fatal(err)
	}
	t.Logf("slot free after %s", AwaitBusy(t, srv, 0, time.Minute))
}

func TestShared(t *testing.T) {
	srv := shared.Server(t)
	if again := shared.Server(t); again != srv {
		t.Errorf("two servers: %d and %d", srv.PID(), again.PID())
	}
	resp, err := http.Get(srv.URL() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); !strings.Contains(string(text), "llamacpp:prompt_tokens_total") {
		t.Errorf("its arguments were not passed on: GET /metrics gave %.200s", text)
	}
}

func TestSharedStopped(t *testing.T) {
	var s Shared
	srv := s.Server(t)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-srv.Done():
	default:
		t.Error("the server still runs")
	}
	if s.err == nil {
		t.Error("a stopped server would be handed out")
	}
}

// TestTokensFor: the number is doubled until it lasts long enough, and a slot's room bounds it.
func TestTokensFor(t *testing.T) {
	perToken := func(n int) (time.Duration, error) { return time.Duration(n) * time.Millisecond, nil }
	for _, c := range []struct {
		d                 time.Duration
		least, room, want int
	}{{0, 77, 1000, 77}, {77 * time.Millisecond, 77, 1000, 77}, {78 * time.Millisecond, 77, 1000, 154}, {500 * time.Millisecond, 77, 1000, 616}, {time.Hour, 77, 1000, 1000}, {time.Hour, 1000, 1000, 1000}} {
		if n, took, err := tokensFor(c.d, c.least, c.room, perToken); n != c.want || took != time.Duration(n)*time.Millisecond || err != nil {
			t.Errorf("%d tokens that take %v, %v; want %d: %+v", n, took, err, c.want, c)
		}
	}
	broken := errors.New("broken")
	if _, _, err := tokensFor(time.Hour, 1, 1000, func(int) (time.Duration, error) { return 0, broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
}

// TestTokens: a real server generates as many tokens as it is asked for, within its slot's room.
func TestTokens(t *testing.T) {
	srv := Start(t, "-c", "1024") // 256 a slot
	if n := Tokens(t, srv, 0, 77); n != 77 {
		t.Errorf("%d tokens for no time, want 77", n)
	}
	if n := Tokens(t, srv, time.Hour, 100); n != 256*7/8 {
		t.Errorf("%d tokens for an hour, want what a slot has room for", n)
	}
}
