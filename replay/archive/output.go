package archive

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// CheckOutputs checks before a run that its folder (--out) and its file (--json-out) can be written; "": none.
func CheckOutputs(out, jsonOut string) error {
	if out != "" {
		if err := Free(out); err != nil {
			return fmt.Errorf("--out: %w", err)
		}
		parent := filepath.Clean(out) // the nearest folder that exists
		for parent != filepath.Dir(parent) && !exists(parent) {
			parent = filepath.Dir(parent)
		}
		if err := checkWritable(parent); err != nil {
			return fmt.Errorf("--out %s: %w", out, err)
		}
	}
	if jsonOut == "" {
		return nil
	}
	dir := filepath.Dir(jsonOut)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return fmt.Errorf("--json-out %s: the folder %s does not exist", jsonOut, dir)
	}
	if info, err := os.Stat(jsonOut); err == nil && info.IsDir() {
		return fmt.Errorf("--json-out %s is a folder: name a file", jsonOut)
	}
	if err := checkWritable(dir); err != nil {
		return fmt.Errorf("--json-out %s: %w", jsonOut, err)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// checkWritable creates a folder in dir and removes it.
func checkWritable(dir string) error {
	probe, err := os.MkdirTemp(dir, ".wattline-")
	if err != nil {
		return fmt.Errorf("cannot write there: %w", err)
	}
	return os.Remove(probe)
}

// ReplaceFile replaces a file atomically.
func ReplaceFile(path string, text []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("%s cannot be written: %w", path, err)
	}
	_, err = tmp.Write(text)
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("%s cannot be written: %w", path, errors.Join(err, os.Remove(tmp.Name())))
	}
	return nil
}
