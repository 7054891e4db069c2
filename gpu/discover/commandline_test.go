package discover

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestRedactKeepsNoSecret(t *testing.T) {
	line := "-m /m/x.gguf -c 4096 --api-key -S3CRET --api-key=S3CRET,S3CRET -hft S3CRET --hf-token S3CRET --ssl-key-file /k.pem --api-key-file /keys " +
		"-mu https://me:S3CRET@host/m.gguf?sig=S3CRET --mcp {\"headers\":{\"Authorization\":\"S3CRET\"}} --some-password S3CRET " +
		"--image-min-tokens 4 --keep 8 --override-kv a=int:1 --last-secret"
	got := strings.Join(Redact(strings.Fields(line)), " ")
	want := "-m /m/x.gguf -c 4096 --api-key *** --api-key=*** -hft *** --hf-token *** --ssl-key-file /k.pem --api-key-file /keys " +
		"-mu https://hidden@host/m.gguf?hidden --mcp *** --some-password *** --image-min-tokens 4 --keep 8 --override-kv a=int:1 --last-secret"
	if got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// TestServer: behind llama-swap the llama-server that it started is meant; of two none is.
func TestServer(t *testing.T) {
	root := golden(t)
	say := func(pid, line string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(root, pid, "cmdline"), []byte(strings.ReplaceAll(line, " ", "\x00")+"\x00"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	say("100", "/usr/bin/llama-swap --config /c")
	say("200", "/lib/ld-linux-x86-64.so.2 /usr/bin/llama-server -c 8192 --api-key S3CRET")
	say("201", "/usr/bin/llama-server -c 1")
	h := open(t, root)
	if pid, flags := h.Server([]int{100, 200, 201}); pid != 200 || !slices.Equal(flags, []string{"-c", "8192", "--api-key", "***"}) {
		t.Errorf("%d %q", pid, flags)
	}
	if pid, flags := h.Server([]int{100, 300}); pid != 0 || flags != nil {
		t.Errorf("no llama-server: %d %q", pid, flags)
	}
	say("300", "llama-server")
	if pid, _ := h.Server([]int{200, 300}); pid != 0 {
		t.Errorf("of two: %d", pid)
	}
	if !h.IsAlive(200) || h.IsAlive(999) {
		t.Error("200 lives, 999 does not")
	}
}
