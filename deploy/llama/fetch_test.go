package llama

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A Debian made of shell scripts, so that fetching can be tested without a network: apt-get names a
// mirror and downloads empty packages, and dpkg unpacks them into a "loader" that prints a version.
// Every call is appended to $FAKE_CALLS.
var fakeDebian = map[string]string{
	"apt-get": `case "$*" in
*--print-uris) echo "'http://mirror.invalid/debian/dists/stable/InRelease' x 0"; exit ;;
*\ update) ;;
*\ download\ *) touch llama.cpp-tools_1.deb libc6_2.deb ;;
esac
echo "apt-get ${*: -3}" >>"$FAKE_CALLS"`,
	"apt-cache": `printf 'llama.cpp-tools\n  Depends: libc6\n  Depends: curl\nlibc6\n'`,
	"dpkg-deb":  `echo 1:9.9-1`,
	"dpkg": `case $1 in
--print-architecture) echo amd64 ;;
-x) mkdir -p "$3/usr/bin" "$3/usr/lib/x86_64-linux-gnu/ggml/backends0"
    touch "$3/usr/bin/llama-server" "$3/usr/lib/x86_64-linux-gnu/ggml/backends0/libggml-cpu-x64.so"
    printf '#!/bin/sh\necho "version: 9.9 (build 99, commit fake)"\n' >"$3/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
    chmod +x "$3/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" ;;
esac`,
}

// useFakeDebian puts the scripts first on PATH, with changes over them, and returns the file that their
// calls are written to.
func useFakeDebian(t *testing.T, changes map[string]string) (calls string) {
	t.Helper()
	if thisSystem() != systemDebian {
		t.Skip("fetch.sh asks for Debian's keyring, which this system lacks")
	}
	bin := t.TempDir()
	for name, body := range fakeDebian {
		if c, ok := changes[name]; ok {
			body = c
		}
		writeProgram(t, filepath.Join(bin, name), "#!/bin/bash\n"+body+"\n")
	}
	calls = filepath.Join(bin, "calls")
	t.Setenv("PATH", bin+":"+systemPath(t))
	t.Setenv("FAKE_CALLS", calls)
	t.Setenv(EnvServer, "")
	return calls
}

// systemPath is PATH without the folders that hold a llama-server.
func systemPath(t *testing.T) string {
	t.Helper()
	var keep []string
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if _, err := os.Stat(filepath.Join(dir, "llama-server")); err != nil {
			keep = append(keep, dir)
		}
	}
	return strings.Join(keep, ":")
}

func writeProgram(t *testing.T, path, body string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(body), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestFetch(t *testing.T) {
	calls := useFakeDebian(t, nil)
	dir := filepath.Join(t.TempDir(), "cache of mine")
	var said strings.Builder
	first, err := find(t.Context(), systemDebian, dir, &said)
	if err != nil {
		t.Fatal(err)
	}
	want := Binary{
		Path:    filepath.Join(dir, "llama-server-9.9-1_amd64", "llama-server"),
		Origin:  OriginFetched,
		Version: "9.9 (build 99, commit fake)",
	}
	if first != want {
		t.Errorf("first Find = %+v, want %+v", first, want)
	}
	for _, part := range []string{"http://mirror.invalid/debian/", "9.9-1", dir} {
		if !strings.Contains(said.String(), part) {
			t.Errorf("progress does not mention %q:\n%s", part, said.String())
		}
	}
	log, _ := os.ReadFile(calls)
	if !strings.Contains(string(log), "download llama.cpp-tools libc6\n") {
		t.Errorf("the download should be the package and its libraries alone:\n%s", log)
	}

	said.Reset()
	second, err := find(t.Context(), systemDebian, dir, &said)
	want.Origin = OriginCache
	if err != nil || second != want {
		t.Errorf("second Find = %+v, %v; want %+v", second, err, want)
	}
	if again, _ := os.ReadFile(calls); string(again) != string(log) || said.Len() > 0 {
		t.Errorf("the second Find fetched again: %s%s", again[len(log):], said.String())
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".llama-server.tmp.*")); len(left) > 0 {
		t.Errorf("temporary folders are left: %q", left)
	}
}

func TestFetchConcurrently(t *testing.T) {
	calls := useFakeDebian(t, nil)
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := find(t.Context(), systemDebian, dir, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	log, _ := os.ReadFile(calls)
	if n := strings.Count(string(log), "download"); n != 1 {
		t.Errorf("%d downloads, want 1:\n%s", n, log)
	}
}

func TestFetchErrors(t *testing.T) {
	for name, tc := range map[string]struct {
		changes map[string]string
		want    []string
	}{
		"no mirror": {
			map[string]string{"apt-get": `exit 0`},
			[]string{"apt sources name no Debian mirror", EnvServer},
		},
		"other archives only": {
			map[string]string{"apt-get": `echo "'http://x.invalid/apt/dists/nodistro/InRelease' x 0"`},
			[]string{"apt sources name no Debian mirror"},
		},
		"old keyring": {
			map[string]string{"apt-get": `case "$*" in *--print-uris) echo "'http://m.invalid/debian/dists/stable/InRelease' x 0" ;; *) echo 'E: ... NO_PUBKEY 0123'; exit 100 ;; esac`},
			[]string{"debian-archive-keyring is too old", "NO_PUBKEY 0123"},
		},
		"no network": {
			map[string]string{"apt-get": `case "$*" in *--print-uris) echo "'http://m.invalid/debian/dists/stable/InRelease' x 0" ;; *) echo 'E: Could not resolve'; exit 100 ;; esac`},
			[]string{"http://m.invalid/debian", "Could not resolve", "check the network"},
		},
		"other architecture": {
			map[string]string{"dpkg": `echo riscv64`},
			[]string{"riscv64", EnvServer},
		},
		"unpacked program does not run": {
			map[string]string{"dpkg": strings.Replace(fakeDebian["dpkg"], "echo \"version", "exit 1; echo \"version", 1)},
			[]string{"does not run on this machine"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			useFakeDebian(t, tc.changes)
			dir := t.TempDir()
			_, err := find(t.Context(), systemDebian, dir, nil)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error lacks %q:\n%v", want, err)
				}
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "*llama-server*")); len(left) > 1 { // the lock file alone may stay
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

func TestFetchCancelled(t *testing.T) {
	started := filepath.Join(t.TempDir(), "started")
	if err := exec.Command("mkfifo", started).Run(); err != nil {
		t.Fatal(err)
	}
	useFakeDebian(t, map[string]string{"apt-get": fmt.Sprintf(
		`case "$*" in *--print-uris) echo "'http://m.invalid/debian/dists/stable/InRelease' x 0" ;; *) echo >'%s'; sleep 60 ;; esac`, started)})
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, _ = os.ReadFile(started) // returns when apt-get runs
		cancel()
	}()
	begin := time.Now()
	_, err := find(ctx, systemDebian, dir, nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v, want context.Canceled", err)
	}
	if d := time.Since(begin); d > 50*time.Second { // it would have slept for 60
		t.Errorf("a cancelled fetch took %s", d)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".llama-server.tmp.*")); len(left) > 0 {
		t.Errorf("temporary folders are left: %q", left)
	}
}

// TestFetchSources has the machine's own apt read sources that name a mirror which does
// not exist; the error must name that mirror.
func TestFetchSources(t *testing.T) {
	if thisSystem() != systemDebian {
		t.Skip("needs Debian's apt")
	}
	for name, content := range map[string]string{
		"one.list": "# a comment\ndeb [arch=amd64] file:/nowhere/debian stable main contrib\n# deb file:/disabled/debian stable main\n",
		"two.sources": "Types: deb deb-src\nURIs: file:/nowhere/debian\nSuites: stable stable-updates\nComponents: main\n\n" +
			"Enabled: no\nTypes: deb\nURIs: file:/disabled/debian\nSuites: stable\nComponents: main\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(EnvServer, "")
			t.Setenv("PATH", systemPath(t))
			etc := t.TempDir()
			if err := os.WriteFile(filepath.Join(etc, name), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
			conf := filepath.Join(etc, "apt.conf")
			t.Setenv("APT_CONFIG", conf)
			if err := os.WriteFile(conf, fmt.Appendf(nil, "Dir::Etc::SourceList \"/dev/null\";\nDir::Etc::SourceParts \"%s\";\n", etc), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := find(t.Context(), systemDebian, t.TempDir(), nil)
			if err == nil || !strings.Contains(err.Error(), "(tried: file:/nowhere/debian/)") {
				t.Errorf("err = %v, want one that names file:/nowhere/debian/ and no other mirror", err)
			}
		})
	}
}
