package sweep

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"

	"wattline/replay/archive"
)

// Free reports whether a sweep may be written into dir: it holds none, and no point of one.
func Free(dir string) error {
	for _, pattern := range []string{"sweep.json", "sweep.md", "sweep.html", "concurrency-*", "capacity", "rate-*"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err == nil && len(found) > 0 {
			return fmt.Errorf("--out: %s holds a sweep already (%s): name another folder", dir, filepath.Base(found[0]))
		}
	}
	return nil
}

// Write writes sweep.json, sweep.md and sweep.html to a folder, and the first to a file too; "": not.
func (r *Result) Write(dir, file string) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	text = append(text, '\n')
	files := map[string][]byte{}
	if file != "" {
		files[file] = text
	}
	if dir != "" {
		var md bytes.Buffer
		if err := r.Markdown(&md); err != nil {
			return err
		}
		page, err := r.Page()
		if err != nil {
			return err
		}
		files[filepath.Join(dir, "sweep.json")], files[filepath.Join(dir, "sweep.md")], files[filepath.Join(dir, "sweep.html")] = text, md.Bytes(), page
	}
	for path, b := range files {
		if err := archive.ReplaceFile(path, b); err != nil {
			return err
		}
	}
	return nil
}
