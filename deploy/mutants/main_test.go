package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRun: a module with one function and three tests: one that notices the mutant, one that cannot
// fail, and one that always fails.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":     "module m\n",
		"add.go":     "package m\n\nfunc add(a, b int) int { return a + b }\n",
		"m_test.go":  "package m\n\nimport \"testing\"\n\nfunc TestAdd(t *testing.T) {\n\tif add(1, 2) != 3 {\n\t\tt.Fatal()\n\t}\n}\n\nfunc TestNothing(t *testing.T) { add(1, 2) }\n\nfunc TestBroken(t *testing.T) { t.Fatal() }\n",
		"testdata/x": "",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	for _, c := range []struct{ name, old, new, test, want string }{
		{"noticed", "a + b", "a - b", "TestAdd", ""},
		{"not noticed", "a + b", "a - b", "TestNothing", "not killed"},
		{"no such test", "a + b", "a - b", "TestNone", "no test ^TestNone$ passes on the code as it is"},
		{"fails anyway", "a + b", "a - b", "TestBroken", "does not pass on the code as it is"},
		{"twice in the file", "a", "b", "TestAdd", "not killed"},
		{"does not compile", "a + b", "a +", "TestAdd", "not killed"},
	} {
		list := "file: add.go\nold: " + c.old + "\nnew: " + c.new + "\ntest: . -run ^" + c.test + "$\n"
		if err := os.WriteFile("testdata/mutants.txt", []byte(list), 0o600); err != nil {
			t.Fatal(err)
		}
		err := run(t.Context(), "", 1)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// TestParseErrors: the error of a list that cannot be read names the line.
func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"file: a.go\nodl: x\n":                             "list:2: \"odl\"",
		"file: a.go\nold: x\nnew: x\ntest: ./a -run ^T$\n": "list:5: a mutant needs",
		"old: x\nnew: y\ntest: ./a -run ^T$\n":             "list:4: a mutant needs",
	} {
		if _, err := parse("list", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// TestLists: the lists of this repository have at least 60 mutants, at least 10 in each room with code, and name files
// that exist and text that occurs once. That the tests fail on them is checked by make mutants.
func TestLists(t *testing.T) {
	t.Chdir("../..")
	all, err := lists(".")
	if err != nil {
		t.Fatal(err)
	}
	rooms := map[string]int{"cmd": 0, "deploy": 0, "gpu": 0, "meter": 0, "proxy": 0, "replay": 0, "sink": 0}
	for _, m := range all {
		room, _, _ := strings.Cut(m.file, "/")
		rooms[room]++
		src, err := os.ReadFile(m.file)
		if err != nil {
			t.Errorf("%s: %v", m.from, err)
		} else if n := strings.Count(string(src), m.old); n != 1 {
			t.Errorf("%s: the old text occurs %d times in %s: %q", m.from, n, m.file, m.old)
		}
	}
	for room, n := range rooms {
		if n < 10 {
			t.Errorf("%s has %d mutants", room, n)
		}
	}
	if len(all) < 60 {
		t.Errorf("there are %d mutants", len(all))
	}
}
