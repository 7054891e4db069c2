package llama

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// EnvServer is the environment variable that names the llama-server to use, before any other.
const EnvServer = "WATTLINE_LLAMA_SERVER"

// ErrNotInstalled is wrapped by Find's error when this system has no llama-server and none can be fetched.
// The error says how to install one.
var ErrNotInstalled = errors.New("no llama-server was found")

// Where a Binary was found.
const (
	OriginEnv     = EnvServer
	OriginPath    = "PATH"
	OriginCache   = "cache"
	OriginFetched = "fetched"
)

// Binary is a llama-server that ran `--version`.
type Binary struct {
	Path    string // absolute
	Origin  string // one of the Origin constants
	Version string // as the program prints it: "0.7.0 (build 11669, commit Debian)"
}

// Find returns a llama-server that runs: the one that WATTLINE_LLAMA_SERVER names, else the one on PATH,
// else one in the cache, else, on Debian, one fetched into the cache (about 5 s and 23 MB). A named program
// that does not run is an error, and no other is tried. progress receives a line for each slow step of a
// fetch; nil: none.
func Find(ctx context.Context, progress io.Writer) (Binary, error) {
	return find(ctx, thisSystem(), "", progress)
}

// find is Find for a system and a cache; "": the default one.
func find(ctx context.Context, system, dir string, progress io.Writer) (Binary, error) {
	if named := os.Getenv(EnvServer); named != "" {
		path, err := exec.LookPath(named)
		if err != nil {
			return Binary{}, fmt.Errorf("llama: %s=%s names no program that can be run: correct or unset it: %w", EnvServer, named, err)
		}
		return probe(ctx, path, OriginEnv)
	}
	if path, err := exec.LookPath("llama-server"); err == nil {
		return probe(ctx, path, OriginPath)
	}
	if system != systemDebian {
		return Binary{}, fmt.Errorf("llama: %w: %s", ErrNotInstalled, installHint(system))
	}
	if dir == "" {
		var err error
		if dir, err = CacheDir(); err != nil {
			return Binary{}, err
		}
	}
	path, origin, err := fetch(ctx, dir, progress)
	if err != nil {
		return Binary{}, err
	}
	return probe(ctx, path, origin)
}

const systemDebian = "debian"

// thisSystem is "debian" where fetch.sh can work, else runtime.GOOS.
func thisSystem() string {
	if runtime.GOOS != "linux" {
		return runtime.GOOS
	}
	for _, keyring := range []string{"debian-archive-keyring.pgp", "debian-archive-keyring.gpg"} {
		if _, err := os.Stat(filepath.Join("/usr/share/keyrings", keyring)); err == nil {
			return systemDebian
		}
	}
	return runtime.GOOS
}

// installHint is one sentence on how to get a llama-server on the given system.
func installHint(system string) string {
	var how string
	switch system {
	case "darwin":
		how = "install one with `brew install llama.cpp` or `nix profile install nixpkgs#llama-cpp`"
	case "windows":
		how = "install one with `winget install llama.cpp`"
	default:
		how = "install one with `brew install llama.cpp`, `nix profile install nixpkgs#llama-cpp` or your distribution's llama.cpp package"
	}
	return how + ", or take a build from the release page of github.com/ggml-org/llama.cpp; " +
		"then put llama-server on PATH or its path in " + EnvServer
}

// probeTimeout is ample for printing a version, also from a cold disk with a GPU driver to load.
const probeTimeout = 60 * time.Second

// probe runs path --version: a program that cannot print it cannot serve.
func probe(ctx context.Context, path, origin string) (Binary, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return Binary{}, fmt.Errorf("llama: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--version") //nolint:gosec // the program that the user names, or that was found
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return Binary{}, fmt.Errorf("llama: %s (from %s) does not run: install it anew, or name another in %s: %w%s",
			path, origin, EnvServer, err, indent(lastLines(string(out), 5)))
	}
	bin := Binary{Path: path, Origin: origin}
	for line := range strings.Lines(string(out)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "version: "); ok {
			bin.Version = v
			break
		}
	}
	return bin, nil
}
