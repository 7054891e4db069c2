package otlptest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/rogpeppe/go-internal/lockedfile"
)

// binary returns the receiver's program, building it when this version of it was never built here. The
// first build compiles the collector's packages (about two CPU minutes) and needs its modules.
func binary(progress func(string)) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	source := filepath.Join(root, "sink", "otlp", "collectortest")
	id, err := fingerprint(source)
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("otlptest: no place for the cache: set XDG_CACHE_HOME to a folder: %w", err)
	}
	path := filepath.Join(cache, "wattline", "collectortest-"+id)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return "", fmt.Errorf("otlptest: %w", err)
	}
	unlock, err := lockedfile.MutexAt(path + ".lock").Lock() // tests of several packages wait for one build
	if err != nil {
		return "", fmt.Errorf("otlptest: %w", err)
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return path, nil // another test has built it meanwhile
	}
	progress("building the OpenTelemetry collector's receiver, once: " + path)
	work := path + ".new"
	cmd := exec.Command("go", "build", "-o", work, ".") //nolint:noctx,gosec // as long as it takes; a path in the cache
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("otlptest: the receiver in sink/otlp/collectortest does not build (its modules come from GOPROXY): %w\n%s", err, out)
	}
	return path, os.Rename(work, path)
}

// fingerprint tells one version of the program from another.
func fingerprint(source string) (string, error) {
	h := sha256.New()
	h.Write([]byte(runtime.Version() + runtime.GOOS + runtime.GOARCH))
	for _, name := range []string{"go.mod", "go.sum", "main.go"} {
		b, err := os.ReadFile(filepath.Join(source, name)) //nolint:gosec // of this repository
		if err != nil {
			return "", fmt.Errorf("otlptest: %w", err)
		}
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil)[:6]), nil
}

// moduleRoot is the folder of wattline's go.mod, from a test's working folder upwards.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		b, err := os.ReadFile(filepath.Join(dir, "go.mod")) //nolint:gosec // of this repository
		if err == nil && strings.HasPrefix(string(b), "module wattline\n") {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("otlptest: no go.mod of wattline above the working folder")
		}
		dir = up
	}
}
