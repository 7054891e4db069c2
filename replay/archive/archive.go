// Package archive keeps a run in a folder and reads it again:
//
//	results.json     the results, one line, the guide's keys first
//	requests.jsonl   one line a request, warm-up included: the client's times and the row measured in line
//	timeseries.csv   power, temperature, clocks by device, and the requests in flight
//	manifest.json    what was run on what: plan, server, devices, host, command line
//
// A folder that holds a run already is never written into.
package archive

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"wattline/replay"
)

// The files of a folder.
const (
	ResultsFile  = "results.json"
	RequestsFile = "requests.jsonl"
	SeriesFile   = "timeseries.csv"
	ManifestFile = "manifest.json"
	ProofFile    = "twin.json" // package twin writes it
)

// Manifest says what was run on what.
type Manifest struct {
	Wattline string              `json:"wattline_version"`
	Argv     []string            `json:"argv"`
	Host     Host                `json:"host"`
	Devices  []replay.DeviceInfo `json:"devices"`
	// ServerFlags are those that the server's --help names, and whether they take a value; Settings those
	// that it was started with and that matter to speed. Both are null where its program was not found.
	ServerFlags map[string]bool   `json:"server_flags"`
	Settings    map[string]string `json:"server_settings"`
	Run         *replay.Run       `json:"run"`
}

// Host is the machine that the client ran on.
type Host struct {
	OS     string `json:"os"`
	Kernel string `json:"kernel"`
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
}

// Archive is a folder's content.
type Archive struct {
	Dir      string
	Manifest Manifest
	Results  *replay.Results
	Run      *replay.Run
}

// Free reports whether a run may be written into dir: it does not exist, or holds no run.
func Free(dir string) error {
	for _, name := range []string{ResultsFile, RequestsFile, SeriesFile, ManifestFile, ProofFile} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return fmt.Errorf("%s holds a run already (%s): name another folder", dir, name)
		}
	}
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return fmt.Errorf("%s is not a folder", dir)
	}
	return nil
}

// Write makes the folder and its files. results.json comes last: a folder that has it is complete.
func Write(dir string, m Manifest, run *replay.Run, results *replay.Results) error {
	if err := Free(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	m.Run, m.Devices = run, run.Power.Devices
	manifest, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("archive: manifest: %w", err)
	}
	text, err := results.JSON()
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		fill func(io.Writer) error
	}{
		{RequestsFile, func(w io.Writer) error { return writeRequests(w, run) }},
		{SeriesFile, func(w io.Writer) error { return writeSeries(w, run) }},
		{ManifestFile, func(w io.Writer) error { return writeAll(w, append(manifest, '\n')) }},
		{ResultsFile, func(w io.Writer) error { return writeAll(w, text) }},
	} {
		if err := create(filepath.Join(dir, f.name), f.fill); err != nil {
			return err
		}
	}
	return nil
}

func writeAll(w io.Writer, b []byte) error {
	_, err := w.Write(b)
	return err
}

// create writes a new file.
func create(path string, fill func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640) //nolint:gosec // named by the user
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	w := bufio.NewWriter(f)
	if err := errors.Join(fill(w), w.Flush(), f.Close()); err != nil {
		return fmt.Errorf("archive: %s: %w", path, err)
	}
	return nil
}

func writeRequests(w io.Writer, run *replay.Run) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, list := range [][]*replay.Exchange{run.Warmups, run.Exchanges} {
		for _, e := range list {
			if err := enc.Encode(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// Read reads a folder that Write wrote.
func Read(dir string) (*Archive, error) { return readFrom(os.DirFS(dir), dir) }

// readFrom reads a folder's files; dir is what errors call it.
func readFrom(files fs.FS, dir string) (*Archive, error) {
	a := &Archive{Dir: dir, Results: &replay.Results{}}
	if err := decode(files, dir, ResultsFile, a.Results); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%s holds no run (no %s): name a folder that `wattline replay --out` wrote", dir, ResultsFile)
		}
		return nil, err
	}
	if err := decode(files, dir, ManifestFile, &a.Manifest); err != nil {
		return nil, err
	}
	a.Run = a.Manifest.Run
	if a.Run == nil || a.Run.Plan == nil {
		return nil, fmt.Errorf("archive: %s names no plan", filepath.Join(dir, ManifestFile))
	}
	if err := readRequests(files, dir, a.Run); err != nil {
		return nil, err
	}
	if err := readSeries(files, dir, a.Run); err != nil {
		return nil, err
	}
	a.Run.Power.Devices = a.Manifest.Devices
	return a, nil
}

func decode(files fs.FS, dir, name string, into any) error {
	path := filepath.Join(dir, name)
	text, err := fs.ReadFile(files, name)
	if err != nil {
		return fmt.Errorf("archive: %s: %w", dir, err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("archive: %s: %w", path, err)
	}
	return nil
}

func readRequests(files fs.FS, dir string, run *replay.Run) error {
	path := filepath.Join(dir, RequestsFile)
	text, err := fs.ReadFile(files, RequestsFile)
	if err != nil {
		return fmt.Errorf("archive: %s: %w", dir, err)
	}
	if len(run.Plan.Cells) == 0 {
		return fmt.Errorf("archive: the plan in %s has no cells: the folder is damaged", filepath.Join(filepath.Dir(path), ManifestFile))
	}
	n := 0
	for line := range bytes.Lines(text) {
		n++
		e := new(replay.Exchange)
		if err := json.Unmarshal(line, e); err != nil {
			return fmt.Errorf("archive: %s:%d: %w", path, n, err)
		}
		if !e.Warmup && (e.Key.Cell < 0 || e.Key.Cell >= len(run.Plan.Cells)) {
			return fmt.Errorf("archive: %s:%d: cell %d is not in the plan, which has %d: the folder is damaged", path, n, e.Key.Cell, len(run.Plan.Cells))
		}
		if e.Warmup {
			run.Warmups = append(run.Warmups, e)
		} else {
			run.Exchanges = append(run.Exchanges, e)
		}
	}
	slices.SortStableFunc(run.Exchanges, func(a, b *replay.Exchange) int { return a.StartedAt.Compare(b.StartedAt) })
	return nil
}
