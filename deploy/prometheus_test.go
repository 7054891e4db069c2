package deploy_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"wattline/deploy/debian"
)

func promtool(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), debian.Need(t, "promtool"), args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// The alerts and Prometheus's configuration are valid, and each alert fires when it should and only then.
func TestAlerts(t *testing.T) {
	for _, args := range [][]string{
		{"check", "rules", "--lint-fatal", "alerts.yml"}, {"check", "config", "prometheus.yml"}, {"test", "rules", "alerts_test.yml"},
	} {
		if out, err := promtool(t, "prometheus", args...); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// Every alert is expected to fire somewhere in the unit tests, and a test that expects the wrong thing fails.
func TestAlertUnitTests(t *testing.T) {
	rules, err := os.ReadFile("prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile("prometheus/alerts_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`- alert: (\w+)`).FindAllSubmatch(rules, -1)
	if len(names) < 6 {
		t.Errorf("only %d alerts were found", len(names))
	}
	for _, n := range names {
		if !regexp.MustCompile(`alertname: ` + string(n[1]) + `\n\s+exp_alerts:\n`).Match(tests) {
			t.Errorf("no unit test expects %s to fire", n[1])
		}
	}
	dir := t.TempDir()
	weaker := bytes.Replace(rules, []byte("> 0.005"), []byte("> 5"), 1)
	for name, text := range map[string][]byte{"alerts.yml": weaker, "alerts_test.yml": tests} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := promtool(t, dir, "test", "rules", "alerts_test.yml"); err == nil || !strings.Contains(out, "WattlineOverhead") {
		t.Errorf("a rule that never fires passes its test: %v\n%s", err, out)
	}
}

// Every metric and label that an alert names is one of sink/METRICS.md, or Prometheus's own.
func TestAlertMetrics(t *testing.T) {
	doc, rules := mustRead(t, "../sink/METRICS.md"), mustRead(t, "prometheus/alerts.yml")
	known := map[string]bool{"target_info": true, "service_instance_id": true}
	for _, m := range regexp.MustCompile("→ `(\\w+)`").FindAllStringSubmatch(doc, -1) {
		known[m[1]], known[m[1]+"_bucket"] = true, true
	}
	for _, m := range regexp.MustCompile("`([a-z_.]+)`").FindAllStringSubmatch(doc, -1) {
		known[strings.ReplaceAll(m[1], ".", "_")] = true
	}
	named := regexp.MustCompile(`\b(wattline|hw|process|gen_ai|service|target)_\w+`).FindAllString(rules, -1)
	for _, n := range named {
		if !known[n] {
			t.Errorf("an alert names %s, which is neither a metric nor an attribute of one", n)
		}
	}
	if len(named) < 20 {
		t.Errorf("only %d names were found", len(named))
	}
}
