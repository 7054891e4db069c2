package logging

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A repeated line is written a few times and then counted. Other lines are not limited, nor is the same one later.
func TestRepeatedLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := New(&out, "text", slog.LevelInfo)
		other := log.With("route", "second")
		for i := range 1000 {
			log.Warn("the upstream refused", "error", fmt.Sprint("number ", i))
			other.Warn("the upstream refused")
		}
		log.Warn("something else")
		log.Error("the upstream refused") // another level is another message
		if n := strings.Count(out.String(), "\n"); n != linesPerWindow+2 {
			t.Errorf("2,002 lines became %d:\n%s", n, out.String())
		}
		time.Sleep(windowLength)
		out.Reset()
		log.Warn("the upstream refused")
		if want := fmt.Sprint("suppressed_before=", 2000-linesPerWindow); !strings.Contains(out.String(), want) {
			t.Errorf("the next line does not say %s: %s", want, out.String())
		}
		out.Reset()
		log.Warn("the upstream refused")
		if strings.Contains(out.String(), "suppressed_before") {
			t.Errorf("the count is reported twice: %s", out.String())
		}
	})
}

func TestMessageLimit(t *testing.T) {
	var out bytes.Buffer
	log := New(&out, "text", slog.LevelInfo)
	for i := range 10 * maxMessages {
		log.Info(fmt.Sprint("message ", i))
	}
	s, ok := log.Handler().(limitedHandler)
	if !ok || len(s.limiter.seen) > maxMessages {
		t.Errorf("%d messages are tracked", len(s.limiter.seen))
	}
	if n := strings.Count(out.String(), "\n"); n != 10*maxMessages {
		t.Errorf("%d different lines became %d", 10*maxMessages, n)
	}
}

func TestJSONRedaction(t *testing.T) {
	var out bytes.Buffer
	New(&out, "json", slog.LevelInfo).Warn("refused", "id", "0199", "Authorization", "Bearer sk-1", "x-api-key", "sk-2",
		slog.Group("db", "password", "sk-3"), "error", errors.New("no"))
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	if line["id"] != "0199" || line["error"] != "no" || line["level"] != "WARN" {
		t.Errorf("the line is %v", line)
	}
	if strings.Contains(out.String(), "sk-") {
		t.Errorf("a secret was logged: %s", out.String())
	}
}

// Suppressed lines are also reported when their message is dropped to make room for others.
func TestForgottenMessages(t *testing.T) {
	var out bytes.Buffer
	log := New(&out, "text", slog.LevelInfo)
	for range linesPerWindow + 7 {
		log.Info("message 0")
	}
	for i := range maxMessages - 1 {
		log.Info(fmt.Sprint("message ", 1+i))
	}
	if strings.Contains(out.String(), "other_lines") {
		t.Fatalf("messages are dropped although there is room:\n%s", out.String())
	}
	out.Reset()
	log.Info("one message too many")
	if want := "other_lines_suppressed_before=7\n"; !strings.HasSuffix(out.String(), want) {
		t.Errorf("the line does not end with %q: %s", want, out.String())
	}
}
