package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"testing"

	"wattline/gpu"
)

// TestAttributeTruncatedRecording: a recording that was cut at any byte is attributed without its incomplete last lines.
func TestAttributeTruncatedRecording(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"counter.csv", "ring.csv", "requests.jsonl"} {
		in, err := os.DirFS(h100).Open(name + ".gz")
		if err != nil {
			t.Fatal(err)
		}
		var text []byte
		z, err := gzip.NewReader(in)
		if err == nil {
			text, err = io.ReadAll(z)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text[:len(text)*3/4], 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cut := func(name string, n int64) {
		t.Helper()
		info, err := os.Stat(filepath.Join(dir, name))
		if err == nil {
			err = os.Truncate(filepath.Join(dir, name), info.Size()-n)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 60 { // bytes: more than a line of each
		rec, err := gpu.ReadRecording(os.DirFS(dir))
		if err != nil {
			t.Fatal(err)
		}
		if last := rec.Buffer[len(rec.Buffer)-1]; last.Mw < 50_000 {
			t.Fatalf("a part of a number was taken for the power: %+v", last)
		}
		c := attributeCmd{Dir: dir, Rule: "phase", Shape: "best", JSON: true}
		var out bytes.Buffer
		if err := c.Run(&app{ctx: t.Context(), stdout: &out}); err != nil || bytes.Count(out.Bytes(), []byte("\n")) < 5 {
			t.Fatalf("%v: %s", err, out.String())
		}
		cut("counter.csv", 1)
		cut("ring.csv", 1)
		cut("requests.jsonl", 7)
	}
	if err := os.WriteFile(filepath.Join(dir, "requests.jsonl"), []byte("{\"t_send\":\n{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (&attributeCmd{Dir: dir, Rule: "phase", Shape: "best"}).Run(&app{ctx: t.Context(), stdout: io.Discard}); err == nil {
		t.Error("a line in the middle that is none is taken")
	}
}
