package llama

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"wattline/meter"
	"wattline/proxy"
	"wattline/proxy/llamatest"
)

func newClient(t *testing.T, url string) *Client {
	t.Helper()
	up, err := proxy.ParseUpstream(url)
	if err != nil {
		t.Fatal(err)
	}
	return NewClient(up)
}

func TestInfo(t *testing.T) {
	f, err := newClient(t, llamatest.Start(t, "-np", "2", "-c", "4096", "-a", "tiny").URL()).Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if f.Model != "tiny" || f.Slots != meter.Some(2) || f.ContextTokens != meter.Some(2048) || !strings.HasPrefix(f.Build, "b") || f.Quantisation == "" {
		t.Errorf("%+v", f)
	}
	t.Logf("%+v", f)
}

// TestInfoOfOtherServers: a router, an old llama-server, a server that knows only /v1/models, one with a key.
func TestInfoOfOtherServers(t *testing.T) {
	for name, c := range map[string]struct {
		props, models string // "" is a 404
		want          ServerInfo
	}{
		"router": {
			`{"role":"router","model_alias":"llama-server","model_path":"none","default_generation_settings":{"n_ctx":0},"build_info":"b7000-abc"}`,
			`{"data":[{"id":"a"},{"id":"b"}]}`, ServerInfo{Build: "b7000-abc"},
		},
		"old": {
			`{"total_slots":4,"model_path":"/m/x.gguf","default_generation_settings":{"n_ctx":4096},"build_info":"b5000"}`,
			`{"data":[{"id":"/m/x.gguf","meta":{"n_params":1}}]}`,
			ServerInfo{Build: "b5000", Model: "x.gguf", ContextTokens: meter.Some(4096), Slots: meter.Some(4)},
		},
		"models only": {"", `{"data":[{"id":"m","meta":null}]}`, ServerInfo{Model: "m"}},
		"nothing":     {"", "", ServerInfo{}},
		"no JSON":     {"<html>", "<html>", ServerInfo{}},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				text := map[string]string{"/props": c.props, "/v1/models": c.models}[r.URL.Path]
				if text == "" {
					http.Error(w, "no", http.StatusNotFound)
					return
				}
				_, _ = w.Write([]byte(text))
			}))
			defer srv.Close()
			if f, err := newClient(t, srv.URL).Info(t.Context()); err != nil || f != c.want {
				t.Errorf("%+v, %v; want %+v", f, err, c.want)
			}
		})
	}
}

// TestInfoNotReady: nothing listens, or the server is loading. That is an error, not an empty ServerInfo.
func TestInfoNotReady(t *testing.T) {
	loading := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, `{"error":{"message":"Loading model"}}`, http.StatusServiceUnavailable)
	}))
	defer loading.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	for _, url := range []string{loading.URL, "http://" + ln.Addr().String(), "unix://" + t.TempDir() + "/none"} {
		if f, err := newClient(t, url).Info(t.Context()); !errors.Is(err, ErrNotReady) || f != (ServerInfo{}) {
			t.Errorf("%s: %+v, %v", url, f, err)
		}
	}
}
