package debian

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A program on PATH is taken, and nothing is fetched for it.
func TestFindOnPath(t *testing.T) {
	dir := t.TempDir()
	want := filepath.Join(dir, "nginx")
	if err := os.WriteFile(want, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache"))
	if got, err := Find(t.Context(), "nginx"); err != nil || got != want {
		t.Errorf("Find = %q, %v, want %q", got, err, want)
	}
	if _, err := os.Stat(filepath.Join(dir, "cache")); err == nil {
		t.Error("a cache was made although nothing was fetched")
	}
}

// A system without apt is told what to install, and Need can tell that from a failed download.
func TestFindWithoutApt(t *testing.T) {
	dir := t.TempDir()
	for _, tool := range []string{"bash", "cat"} {
		if err := os.Symlink("/bin/"+tool, filepath.Join(dir, tool)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache"))
	_, err := Find(t.Context(), "haproxy")
	if !errors.Is(err, ErrNotDebian) || !strings.Contains(err.Error(), "install haproxy yourself and put it on PATH") {
		t.Errorf("Find says %v", err)
	}
}

// A package that the archive does not have is an error that says so, and leaves nothing behind.
func TestFindUnknownPackage(t *testing.T) {
	dir := t.TempDir()
	apt := "#!/bin/sh\ncase \"$*\" in *install*) echo 'E: Unable to locate package' >&2; exit 100;; esac\n"
	if err := os.WriteFile(filepath.Join(dir, "apt-get"), []byte(apt), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache"))
	_, err := Find(t.Context(), "no-such-program")
	if err == nil || errors.Is(err, ErrNotDebian) || !strings.Contains(err.Error(), "could not be downloaded") {
		t.Errorf("Find says %v", err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "cache/wattline/debian/.tmp.*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}
