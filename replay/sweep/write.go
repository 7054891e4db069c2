package sweep

import (
	"bytes"
	"encoding/json"
	"path/filepath"

	"wattline/replay/archive"
)

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
