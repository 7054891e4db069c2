package main

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"

	"wattline/deploy/llama"
)

//go:embed scripts
var scripts embed.FS

// Times of npm and of what its clients leave behind.
const (
	installTime = 10 * time.Minute
	waitDelay   = 5 * time.Second
)

// install returns the folder of the cache that has the client, and the client's version. Scripts of packages are not run.
func (c *client) install(ctx context.Context) (dir, version string, err error) {
	cache, err := llama.CacheDir()
	if err != nil {
		return "", "", err
	}
	name := strings.NewReplacer("@", "", "/", "-").Replace(c.name)
	dir = filepath.Join(cache, fmt.Sprintf("client-%s-%.6x", name, sha256.Sum256([]byte(strings.Join(c.packages, " ")))))
	if _, err := os.Stat(dir); err != nil {
		if err := c.fetch(ctx, cache, dir); err != nil {
			return "", "", err
		}
	}
	for _, e := range must(scripts.ReadDir("scripts")) {
		text, err := fs.ReadFile(scripts, path.Join("scripts", e.Name()))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, e.Name()), text, 0o600) // Node looks for packages beside the script
		}
		if err != nil {
			return "", "", err
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "node_modules", packageName(c.packages[0]), "package.json"))
	if err != nil {
		return "", "", err
	}
	var p struct {
		Version string `json:"version"`
	}
	return dir, p.Version, json.Unmarshal(text, &p)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // the files are part of the program
	}
	return v
}

// packageName is NAME of NAME@VERSION.
func packageName(s string) string { return s[:strings.LastIndexByte(s, '@')] }

// fetch installs the packages into a new folder, which gets its name only when it is whole.
func (c *client) fetch(ctx context.Context, cache, dir string) error {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return errors.New("there is no npm: install Node.js with npm")
	}
	if err := os.MkdirAll(cache, 0o755); err != nil { //nolint:gosec // a cache of public things
		return err
	}
	tmp, err := os.MkdirTemp(cache, ".client-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp) //nolint:errcheck // a temporary folder
	if err := os.WriteFile(filepath.Join(tmp, "package.json"), []byte(`{"private":true,"type":"module"}`), 0o600); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, installTime)
	defer cancel()
	fmt.Fprintf(os.Stderr, "npm install %s (once, into %s)\n", strings.Join(c.packages, " "), cache)
	cmd := exec.CommandContext(ctx, npm, append([]string{"install", "--fetch-retries", "5", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock"}, c.packages...)...) //nolint:gosec // the table's
	cmd.Dir = tmp
	ownGroup(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("npm install %s: %w: %s", c.packages[0], err, firstError(string(out)))
	}
	if err := os.Rename(tmp, dir); err != nil {
		if _, there := os.Stat(dir); there != nil { // else another process was faster
			return err
		}
	}
	return nil
}

// firstError is the first line of npm's output that tells of an error.
func firstError(out string) string {
	for line := range strings.Lines(out) {
		if text, ok := strings.CutPrefix(line, "npm error "); ok && !strings.HasPrefix(text, "code") {
			return strings.TrimSpace(text)
		}
	}
	return lastLine(out)
}
