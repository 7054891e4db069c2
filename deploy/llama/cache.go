package llama

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// CacheDir is where fetched programs and models are kept: $XDG_CACHE_HOME/wattline, else
// ~/.cache/wattline. The rule is the same on every system. It need not exist yet.
func CacheDir() (string, error) {
	if base := os.Getenv("XDG_CACHE_HOME"); filepath.IsAbs(base) {
		return filepath.Join(base, "wattline"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("llama: no place for the cache: set XDG_CACHE_HOME to a folder: %w", err)
	}
	return filepath.Join(home, ".cache", "wattline"), nil
}

// writeFile writes a file atomically: a reader finds all of data, also when several processes write at once.
func writeFile(path string, data []byte, mode os.FileMode) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // a cache of public things
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, werr := f.Write(data)
	if err := errors.Join(werr, f.Chmod(mode), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
