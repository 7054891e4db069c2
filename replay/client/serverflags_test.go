package client

import (
	"net"
	"strings"
	"testing"

	"wattline/proxy/llamatest"
)

const helpText = `----- common params -----

-c,    --ctx-size N                     size of the prompt context (default: 0, 0 = loaded from model)
                                        (env: LLAMA_ARG_CTX_SIZE)
-fa,   --flash-attn [on|off|auto]       set Flash Attention use ('on', 'off', or 'auto', default: 'auto')
-kvu,  --kv-unified, -no-kvu, --no-kv-unified
                                        use single unified KV buffer (see --kv-unified-per-slot)
--kv-unified-per-slot N                 context limit per parallel slot
--perf, --no-perf                       whether to enable internal libllama performance timings
--spec-type none,draft                  speculation
-v,    --verbose                        set verbosity level to infinity (i.e. log all messages)
`

func TestParseHelp(t *testing.T) {
	flags := parseHelp(helpText)
	for name, takes := range map[string]bool{
		"-c": true, "--ctx-size": true, "-fa": true, "--flash-attn": true, "--kv-unified": false, "-no-kvu": false,
		"--kv-unified-per-slot": true, "--perf": false, "-v": false,
	} {
		got, ok := flags[name]
		if !ok || got != takes {
			t.Errorf("%s: known %v, takes a value %v, want %v", name, ok, got, takes)
		}
	}
	if len(flags) != 14 {
		t.Errorf("%d flags: %v", len(flags), flags)
	}
}

func TestSettingsKeepNoSecrets(t *testing.T) {
	got := Settings(strings.Fields("--api-key hunter2 -ngl 99 --flash-attn=on -kvu -c 8192 --ssl-key-file /k -b -1"))
	want := map[string]string{"--gpu-layers": "99", "--flash-attn": "on", "--kv-unified": "", "--ctx-size": "8192", "--batch-size": "-1"}
	if len(got) != len(want) {
		t.Errorf("settings = %v, want %v", got, want)
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s = %q, want %q", k, got[k], v)
		}
	}
}

func TestServerFlagsOfARunningServer(t *testing.T) {
	srv := llamatest.Start(t, "-np", "2", "--flash-attn", "off")
	s, err := ReadServerFlags(t.Context(), strings.TrimPrefix(srv.URL(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Known) < 100 || !s.Known["--flash-attn"] || s.Known["--kv-unified"] {
		t.Errorf("%d flags; --flash-attn takes a value: %v; --kv-unified does: %v", len(s.Known), s.Known["--flash-attn"], s.Known["--kv-unified"])
	}
	if s.Settings["--flash-attn"] != "off" || s.Settings["--parallel"] != "2" {
		t.Errorf("settings = %v", s.Settings)
	}
}

func TestServerFlagsOfOtherProgram(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // this test binary listens, and is no server
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, address := range []string{ln.Addr().String(), "127.0.0.1:1", "192.0.2.1:80"} {
		if s, err := ReadServerFlags(t.Context(), address); err == nil {
			t.Errorf("%s: %+v", address, s)
		}
	}
}
