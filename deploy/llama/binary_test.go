package llama

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const printsVersion = "#!/bin/sh\necho 'version: 5000 (abcdef0)' >&2\n"

func TestFindOrder(t *testing.T) {
	useFakeDebian(t, nil)
	onPath, named := t.TempDir(), filepath.Join(t.TempDir(), "my-server")
	cache := t.TempDir()
	bare := os.Getenv("PATH")

	find := func() Binary {
		t.Helper()
		bin, err := find(t.Context(), systemDebian, cache, nil)
		if err != nil {
			t.Fatal(err)
		}
		return bin
	}
	if got := find(); got.Origin != OriginFetched {
		t.Errorf("nothing installed: %+v, want it fetched", got)
	}
	if got := find(); got.Origin != OriginCache {
		t.Errorf("fetched before: %+v, want the cache", got)
	}
	writeProgram(t, filepath.Join(onPath, "llama-server"), printsVersion)
	t.Setenv("PATH", onPath+":"+bare)
	want := Binary{Path: filepath.Join(onPath, "llama-server"), Origin: OriginPath, Version: "5000 (abcdef0)"}
	if got := find(); got != want {
		t.Errorf("on PATH: %+v, want %+v", got, want)
	}
	writeProgram(t, named, printsVersion)
	t.Setenv(EnvServer, named)
	if got := find(); got.Origin != OriginEnv || got.Path != named {
		t.Errorf("named: %+v, want %s", got, named)
	}
}

func TestFindBrokenProgram(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken")
	writeProgram(t, broken, "#!/bin/sh\necho 'libfoo.so: cannot open shared object file' >&2; exit 127\n")
	t.Setenv(EnvServer, broken)
	if _, err := Find(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "libfoo.so") || !strings.Contains(err.Error(), EnvServer) {
		t.Errorf("err = %v, want what it said and what to do", err)
	}
	t.Setenv(EnvServer, broken+"-absent")
	if _, err := Find(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "correct or unset it") {
		t.Errorf("err = %v, want a hint", err)
	}
}

func TestFindOnOtherSystems(t *testing.T) {
	t.Setenv(EnvServer, "")
	t.Setenv("PATH", systemPath(t))
	for system, want := range map[string]string{
		"darwin":  "brew install llama.cpp",
		"windows": "winget install llama.cpp",
		"linux":   "nix profile install",
	} {
		_, err := find(t.Context(), system, t.TempDir(), nil)
		if !errors.Is(err, ErrNotInstalled) {
			t.Fatalf("%s: err = %v, want ErrNotInstalled", system, err)
		}
		for _, part := range []string{want, "github.com/ggml-org/llama.cpp", EnvServer} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: error lacks %q: %v", system, part, err)
			}
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: the error is more than a sentence: %q", system, err)
		}
	}
}

func TestTinyModel(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	path, err := TinyModel(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(data), "GGUF") || len(data) != len(tinyModel) {
		t.Fatalf("%s: %d bytes, %v; want a GGUF of %d", path, len(data), err, len(tinyModel))
	}
	before, _ := os.Stat(path)
	if _, err := TinyModel(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.Stat(path); !os.SameFile(before, after) {
		t.Error("a second call wrote the file anew")
	}
	if err := os.Truncate(path, 7); err != nil {
		t.Fatal(err)
	}
	if _, err := TinyModel(t.Context()); err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(path); info.Size() != int64(len(tinyModel)) {
		t.Error("a damaged file was not replaced")
	}
}
