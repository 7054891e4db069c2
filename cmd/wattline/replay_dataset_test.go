package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"wattline/proxy/stub"
	"wattline/replay"
)

// TestReplayDataset: a user's own file runs in a closed loop, in an open loop and from a workload file; every record is
// sent as it stands, and results and report name the file, its hash and its records.
func TestReplayDataset(t *testing.T) {
	srv := stub.New(stub.Config{HeaderDelay: -1, FirstToken: 2 * time.Millisecond, TokenGap: time.Millisecond, PingInterval: -1, Context: 300})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go srv.Serve(ln)
	defer srv.Close()
	var mu sync.Mutex
	var sent []string // messages and max_tokens of the measured requests
	url := tapped(t, "http://"+ln.Addr().String(), func(r *http.Request, body []byte) {
		if !strings.Contains(r.Header.Get("X-Request-Id"), "-m-") {
			return
		}
		var ask struct {
			Messages  json.RawMessage `json:"messages"`
			MaxTokens int             `json:"max_tokens"`
		}
		if err := json.Unmarshal(body, &ask); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		sent = append(sent, fmt.Sprintf("%d %s", ask.MaxTokens, ask.Messages))
	})
	dir := t.TempDir()
	text := `{"prompt": "What is <a> slot?", "max_tokens": 12}
{"messages": [{"role":"system","content":"Be brief."},{"role":"user","content":"What is a KV cache?"}], "max_tokens": 4}
{"conversations": [{"from": "human", "value": "Name three GPUs."}, {"from": "gpt", "value": "..."}], "id": "x"}
{"prompt": "` + strings.Repeat("too long ", 300) + `"}
`
	hash := sha256.Sum256([]byte(text))
	sum := hex.EncodeToString(hash[:])
	for name, content := range map[string]string{"mine.jsonl": text, "workload.yaml": "dataset: mine.jsonl\noutput_tokens: 8\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mine := filepath.Join(dir, "mine.jsonl")
	for name, args := range map[string][]string{
		"closed":        {"--dataset", mine, "--output-tokens", "8"}, // each once
		"open":          {"--dataset", mine, "--output-tokens", "8", "--rate", "50", "--arrival", "constant", "--requests", "4"},
		"workload file": {"--config-file", filepath.Join(dir, "workload.yaml")},
	} {
		sent = nil
		file := filepath.Join(dir, name+".json")
		got := wattline(t, append([]string{"replay", "--endpoint", url, "--json-out", file}, args...)...)
		if got.code != exitOK && !strings.Contains(got.stdout, "fell behind its schedule") { // a busy machine may
			t.Errorf("%s: exit %d\n%s\n%s", name, got.code, got.stdout, got.stderr)
			continue
		}
		want := []string{
			`12 [{"role":"user","content":"What is \u003ca\u003e slot?"}]`, `4 [{"role":"system","content":"Be brief."},{"role":"user","content":"What is a KV cache?"}]`,
			`8 [{"role":"user","content":"Name three GPUs."}]`,
		}
		if name == "open" { // on a busy machine a request overtakes another
			want = append(want, want[0])
			slices.Sort(want)
			slices.Sort(sent)
		}
		if strings.Join(sent, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s: sent\n%s\nwant\n%s", name, strings.Join(sent, "\n"), strings.Join(want, "\n"))
		}
		r := readResults(t, file)
		if d := r.Workload.Dataset; d == nil || d.File != "mine.jsonl" || d.SHA256 != sum || d.Records != 4 {
			t.Errorf("%s: the results say %+v", name, d)
		}
		for _, c := range r.Checks {
			if (c.Name == "prompt tokens" || c.Name == "output tokens") && c.State != replay.Passed {
				t.Errorf("%s: %+v", name, c)
			}
		}
		for _, want := range []string{fmt.Sprintf("4 records of mine.jsonl (SHA-256 %.12s)", sum), "1 of 4 requests are longer than the server's context of 300 tokens a slot (lines 4)"} {
			if !strings.Contains(got.stdout, want) {
				t.Errorf("%s: no %q in\n%s", name, want, got.stdout)
			}
		}
	}
}
