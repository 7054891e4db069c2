package gpu

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestSysNumber(t *testing.T) {
	path := filepath.Join(t.TempDir(), "energy_uj")
	n := func(content string) (int64, error) {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := OpenSysNumber(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		return f.Read()
	}
	for content, want := range map[string]int64{"262143328850\n": 262143328850, "-5000\n": -5000, "0": 0} {
		if v, err := n(content); err != nil || v != want {
			t.Errorf("%q: %d, %v", content, v, err)
		}
	}
	for _, content := range []string{"", "\n", "12a\n", "-\n", "99999999999999999999\n"} {
		if v, err := n(content); err == nil {
			t.Errorf("%q: %d, want an error", content, v)
		}
	}
	if _, err := OpenSysNumber(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestSysNumberDoesNotAllocate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "power1_average")
	if err := os.WriteFile(path, []byte("34000000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := OpenSysNumber(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n := testing.AllocsPerRun(100, func() {
		if _, err := f.Read(); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("a read allocates %g times", n)
	}
}
