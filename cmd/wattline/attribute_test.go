package main

import (
	"bytes"
	"encoding/json"
	"testing"
)

const h100 = "../../gpu/testdata/h100"

// attributeLines runs attribute --json and returns its lines.
func attributeLines(t *testing.T, c attributeCmd) []map[string]any {
	t.Helper()
	var out bytes.Buffer
	c.Dir, c.JSON = h100, true
	if err := c.Run(&app{ctx: t.Context(), stdout: &out}); err != nil {
		t.Fatal(err)
	}
	var lines []map[string]any
	for l := range bytes.Lines(out.Bytes()) {
		var m map[string]any
		if err := json.Unmarshal(l, &m); err != nil {
			t.Fatalf("%s: %v", l, err)
		}
		lines = append(lines, m)
	}
	return lines
}

func TestAttributeConservation(t *testing.T) {
	for _, rule := range []string{"phase", "time", "token"} {
		for _, shape := range []string{"best", "counter", "average"} {
			lines := attributeLines(t, attributeCmd{Rule: rule, Shape: shape})
			var sum float64
			for i, m := range lines[:len(lines)-1] {
				if m["i"] != float64(i) || m["tag"] == "" || m["energy_method"] != rule {
					t.Errorf("%s, %s: line %d is %v", rule, shape, i, m)
				}
				sum += m["gpu_uj"].(float64)
			}
			l := lines[len(lines)-1]["ledger"].(map[string]any)
			if l["requests_uj"] != sum {
				t.Errorf("%s, %s: requests sum to %.0f, the ledger says %.0f", rule, shape, sum, l["requests_uj"])
			}
			if parts := sum + l["idle_uj"].(float64) + l["residual_uj"].(float64); parts != l["counter_delta_uj"] {
				t.Errorf("%s, %s: parts sum to %.0f, the counter's delta is %.0f", rule, shape, parts, l["counter_delta_uj"])
			}
		}
	}
}

func TestAttributeEmptyFolder(t *testing.T) {
	c := attributeCmd{Dir: t.TempDir(), Rule: "phase", Shape: "best"}
	if err := c.Run(&app{ctx: t.Context(), stdout: &bytes.Buffer{}}); err == nil {
		t.Fatal("an empty folder is no recording")
	}
}
