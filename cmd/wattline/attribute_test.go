package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
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

// TestScore: one command scores every recording, and the ledger is the best method on each real one.
func TestScore(t *testing.T) {
	score := func(c attributeCmd) (string, error) {
		var out bytes.Buffer
		c.Rule, c.Shape = "phase", "best"
		err := c.Run(&app{ctx: t.Context(), stdout: &out})
		return out.String(), err
	}
	text, err := score(attributeCmd{Score: "../../gpu/testdata"})
	if err != nil {
		t.Fatal(err)
	}
	rms := regexp.MustCompile(`(?m)^(\S+) +(\S+(?: \S+)*) +\d+ +([\d.]+) %`)
	best := map[string]float64{}
	for _, m := range rms.FindAllStringSubmatch(text, -1) {
		v, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			t.Fatal(err)
		}
		if m[2] == "phase" {
			best[m[1]] = v
		} else if v <= best[m[1]] && m[1] != "h200-foreign" {
			t.Errorf("%s is better than phase on %s: %.1f %%, %.1f %%", m[2], m[1], v, best[m[1]])
		}
	}
	if len(best) < 12 || best["all"] == 0 {
		t.Errorf("too few recordings were scored:\n%s", text)
	}
	printed := map[string]bool{}
	for line := range strings.Lines(text) {
		printed[strings.Join(strings.Fields(line), " ")] = true
	}
	for _, page := range []string{"../../README.md", "../../meter/energy/RULER.md"} {
		quoted, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		lines := regexp.MustCompile(`(?m)^    \S.*%$`).FindAllString(string(quoted), -1)
		if len(lines) < 5 {
			t.Errorf("%s quotes %d lines of the scores", page, len(lines))
		}
		for _, line := range lines {
			if !printed[strings.Join(strings.Fields(line), " ")] {
				t.Errorf("%s says what attribute --score does not print: %s", page, line)
			}
		}
	}

	// Another tool's answers: the measured truth, with an error.
	truth, err := os.ReadFile("../../gpu/testdata/h100-first/truth.csv")
	if err != nil {
		t.Fatal(err)
	}
	answers := filepath.Join(t.TempDir(), "tool.csv")
	if err := os.WriteFile(answers, bytes.Replace(truth, []byte(",error,"), []byte(",sigma,"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err = score(attributeCmd{Score: "../../gpu/testdata/h100-first", Answers: answers})
	if err != nil || !regexp.MustCompile(`tool.csv +28 +0.0 % +\S+ % +100.0 %`).MatchString(text) {
		t.Error(text, err)
	}
	for _, c := range []attributeCmd{
		{}, {Score: t.TempDir()}, {Score: "nowhere"}, {Score: "../../gpu/testdata/h100"}, {Score: "../../gpu/testdata", Answers: answers},
		{Score: "../../gpu/testdata/h100-first", Answers: "attribute.go"},
	} {
		if text, err := score(c); err == nil {
			t.Errorf("%+v is taken: %s", c, text)
		} else {
			t.Log(err)
		}
	}
}
