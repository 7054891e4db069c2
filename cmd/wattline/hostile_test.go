package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"wattline/cmd/wattline/internal/term"
	"wattline/gpu"
	"wattline/meter"
	"wattline/replay/table"
	"wattline/sink"
)

// TestHostileText: whatever clients and servers call things, no command that prints for people passes it to the terminal
// raw, and JSON keeps every character.
func TestHostileText(t *testing.T) {
	const hostile = "m\x1b]0;x\x07\r\u009b31m\u202egnp\u2066\u200b\ufeff\x7f"
	at := time.Now().Add(-time.Hour).Truncate(time.Millisecond).UTC()
	rec := measured("0199aaaa-0000-7000-8000-00000000abcd", at)
	rec.Model, rec.Path, rec.Error, rec.Agent, rec.Session, rec.User, rec.FinishReason = hostile, "/"+hostile, hostile, hostile, hostile, hostile, hostile
	rec.Method, rec.Labels, rec.EnergySource = hostile, map[string]string{"team": hostile, hostile: "x"}, hostile
	rec.Details = &meter.Details{Unread: meter.UnreadPath}
	path := storeOf(t, sink.Rows{Requests: []*meter.Record{rec}})
	for _, args := range [][]string{
		{"requests"}, {"requests", rec.ID}, {"usage", "--by", "model"}, {"usage", "--by", "agent"}, {"usage", "--by", "user"}, {"usage", "--by", "label"},
		{"query", "SELECT * FROM requests"}, {"query", "--format", "csv", "SELECT * FROM requests"}, {"export"},
		{"query", "SELECT model AS \"" + hostile + "\" FROM requests"},
	} {
		args = append(args, "--store", path)
		code, stdout, stderr := runProgram(t, args...)
		if code != 0 || !strings.Contains(stdout, `\x1b]0;x\a`) && !strings.Contains(stdout, "abcd") {
			t.Errorf("%q: exit %d, %q, %q", args, code, stdout, stderr)
		}
		if text := stdout + stderr; table.PrintableLines(text) != text {
			t.Errorf("%q printed raw text: %q", args, text)
		}
	}
	for _, args := range [][]string{{"query", hostile}, {"requests", hostile}, {"replay", "--endpoint", "http://127.0.0.1:1/" + hostile}} {
		code, stdout, stderr := runProgram(t, append(args, "--store", path)...)
		if text := stdout + stderr; code == 0 || table.PrintableLines(text) != text {
			t.Errorf("%q: exit %d, %q", args, code, text)
		}
	}
	stdout, _ := output(t, 0, "requests", "--json", "--store", path)
	var row struct{ Model, Agent, Error string }
	if err := json.Unmarshal([]byte(stdout), &row); err != nil || row.Model != hostile || row.Agent != hostile || row.Error != hostile {
		t.Errorf("%v: %q", err, stdout)
	}
}

// TestHostileDevices: nor do names of devices and drivers reach the terminal raw.
func TestHostileDevices(t *testing.T) {
	const hostile = "d\x1b]0;x\x07\u202egnp"
	var out bytes.Buffer
	r := term.DeviceReport{Devices: []gpu.State{{Info: gpu.Info{Name: hostile, UUID: hostile, Driver: hostile}}}, NotRead: map[string]string{"nvml": hostile}}
	r.Print(&out)
	if err := term.DeviceRow(&out, hostile, gpu.Row{Marked: hostile}); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); table.PrintableLines(text) != text || strings.Count(text, `\x1b]0;x\a`) < 4 {
		t.Errorf("printed %q", text)
	}
}

// runProgram is output for any exit code.
func runProgram(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}
