package chtest

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A machine without npm is told what to do; a download that is not the known one is refused and leaves nothing.
func TestFetchRefuses(t *testing.T) {
	for name, c := range map[string]struct{ npm, says string }{
		"no npm":         {"", "install Node.js with npm, or copy a filled"},
		"npm fails":      {"echo registry unreachable; exit 1", "registry unreachable"},
		"nothing comes":  {"exit 0", "left 0 tarballs"},
		"something else": {`while [ "$1" != --pack-destination ]; do shift; done; echo other > "$2/x.tgz"`, "hashes to sha512-"},
	} {
		t.Run(name, func(t *testing.T) {
			cache, bin := t.TempDir(), t.TempDir()
			if c.npm != "" {
				if err := os.WriteFile(filepath.Join(bin, "npm"), []byte("#!/bin/sh\n"+c.npm+"\n"), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			t.Setenv("XDG_CACHE_HOME", cache)
			t.Setenv("PATH", bin)
			var log bytes.Buffer
			_, err := install(t.Context(), &log)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%v, expected %q", err, c.says)
			}
			if errors.Is(err, errUnavailable) != (c.npm == "") {
				t.Errorf("%v: only a machine without npm may leave tests out", err)
			}
			if c.npm != "" && !strings.Contains(log.String(), "167 MB") {
				t.Errorf("nothing was said about the download: %q", log.String())
			}
			left, err := filepath.Glob(filepath.Join(cache, "wattline", "*"))
			if err != nil || len(left) != 1 || !strings.HasSuffix(left[0], ".lock") {
				t.Errorf("left behind: %q, %v", left, err)
			}
		})
	}
}
