package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// report writes pytest's report of tests by outcome.
func report(t *testing.T, cases string) string {
	t.Helper()
	var b strings.Builder
	for c := range strings.FieldsSeq(cases) {
		name, outcome, _ := strings.Cut(c, "=")
		inner := map[string]string{
			"failed": `<failure message="assert 1 == 2&#10;more">trace</failure>`, "error": `<error message="no server">trace</error>`, "skipped": `<skipped message="why"/>`,
		}[outcome]
		fmt.Fprintf(&b, `<testcase classname="unit.test_a" name="%s" time="1">%s</testcase>`, name, inner)
	}
	file := filepath.Join(t.TempDir(), "report.xml")
	text := `<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite name="pytest">` + b.String() + `</testsuite></testsuites>`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestCompare(t *testing.T) {
	all := results{}
	for way, runs := range map[string][]string{
		direct:  {"same=passed flaky=passed worse=passed gone=passed off=skipped both=failed", "same=passed flaky=failed worse=passed gone=passed off=skipped both=failed"},
		through: {"same=passed flaky=failed worse=error off=skipped both=failed", "same=passed flaky=failed worse=failed off=skipped both=failed"},
	} {
		for _, cases := range runs {
			if err := all.add(way, report(t, cases)); err != nil {
				t.Fatal(err)
			}
		}
	}
	var out strings.Builder
	if n := compare(&out, all); n != 2 {
		t.Errorf("%d tests differ", n)
	}
	want := `direct:  1 failed, 1 failed and passed, 3 passed, 1 skipped
through: 3 failed, 1 not run, 1 passed, 1 skipped
differs: test_a::gone: passed direct, not run through wattline
differs: test_a::worse: passed direct, failed through wattline
  through: assert 1 == 2
6 tests, 2 of them differ
`
	if out.String() != want {
		t.Errorf("it says:\n%s\nnot:\n%s", out.String(), want)
	}
	if err := all.add(direct, filepath.Join(t.TempDir(), "none.xml")); err == nil {
		t.Error("a report that is not there is read")
	}
}

func TestServerArguments(t *testing.T) {
	args := strings.Fields("--host 127.0.0.1 --port 1234 --temp 0.8 --offline --model-draft d.gguf --hf-repo a/b --hf-file c.gguf --mmproj-url http://x --no-jinja")
	args, asked := moved(args, 77)
	if want := "127.0.0.1:1234"; asked != want {
		t.Errorf("the test looks at %s, not %s", asked, want)
	}
	got := strings.Join(withModel(args, "tiny"), " ")
	if want := "--host 127.0.0.1 --port 77 --temp 0.8 --no-jinja --model tiny --model-draft tiny --threads 1 --chat-template chatml"; got != want {
		t.Errorf("%s\nnot %s", got, want)
	}
	if router := withModel([]string{"--models-dir", "m"}, "tiny"); !slices.Equal(router, []string{"--models-dir", "m"}) {
		t.Errorf("a router gets %v", router)
	}
}

// TestNoSuite: without a checkout it says how to get one.
func TestNoSuite(t *testing.T) {
	for _, peer := range []string{"", t.TempDir()} {
		c := config{peer: peer}
		if _, err := c.run(t.Context(), os.Stderr); err == nil || !strings.Contains(err.Error(), "git clone") {
			t.Errorf("%q: %v", peer, err)
		}
	}
}
