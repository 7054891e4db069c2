package archive

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"wattline/replay"
)

// Runs is a folder below which runs were written, for the web console.
type Runs struct {
	Dir    string
	Charts func(*Archive) any // what a run's charts show; nil: nothing
	// Judge compares the second run with the first. Not nil.
	Judge func(a, b *Archive) (any, error)
}

// runLine is a run in a list. A null figure was not measured.
type runLine struct {
	Run             string     `json:"run"`
	At              time.Time  `json:"at"`
	Verdict         string     `json:"verdict"` // VALID or INVALID; "" with an error
	Error           string     `json:"error,omitempty"`
	Model           string     `json:"model"`
	Requests        int        `json:"requests"`
	Errors          int        `json:"errors"`
	TokensPerSecond replay.Num `json:"tokens_per_second"`
}

// maxRuns is how many runs are listed.
const maxRuns = 1000

// List lists the runs, the latest first. A folder without a run is left out.
func (r Runs) List(ctx context.Context) (any, error) {
	root, err := os.OpenRoot(r.Dir)
	if err != nil {
		return nil, fmt.Errorf("the folder of runs cannot be read: %w", err)
	}
	defer root.Close() //nolint:errcheck // only read
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, fmt.Errorf("the folder of runs cannot be read: %w", err)
	}
	list := []runLine{}
	for _, e := range entries {
		if ctx.Err() != nil || len(list) == maxRuns {
			break
		}
		text, err := fs.ReadFile(root.FS(), e.Name()+"/"+ResultsFile)
		if err != nil {
			continue
		}
		line, res := runLine{Run: e.Name()}, &replay.Results{}
		if err := json.Unmarshal(text, res); err != nil {
			line.Error = fmt.Sprintf("%s cannot be read: %v", ResultsFile, err)
		} else {
			line.At, line.Model, line.Requests, line.Errors, line.TokensPerSecond = res.Timestamp, res.Model, res.PromptsTested, res.Errors, res.Throughput.TokensPerSecond
			line.Verdict = "INVALID"
			if res.Valid {
				line.Verdict = "VALID"
			}
		}
		list = append(list, line)
	}
	slices.SortStableFunc(list, func(a, b runLine) int { return cmp.Or(b.At.Compare(a.At), cmp.Compare(a.Run, b.Run)) })
	return list, nil
}

// Read reads the results, the manifest and the charts of one run; nil without an error where there is none.
func (r Runs) Read(_ context.Context, name string) (any, error) {
	root, err := os.OpenRoot(r.Dir)
	if err != nil {
		return nil, fmt.Errorf("the folder of runs cannot be read: %w", err)
	}
	defer root.Close() //nolint:errcheck // only read
	if !fs.ValidPath(name) {
		return nil, nil //nolint:nilnil // as documented
	}
	out := map[string]any{"run": name}
	for key, file := range map[string]string{"results": ResultsFile, "manifest": ManifestFile} {
		text, err := fs.ReadFile(root.FS(), name+"/"+file)
		switch {
		case errors.Is(err, fs.ErrNotExist) && file == ResultsFile:
			return nil, nil //nolint:nilnil // as documented
		case err != nil:
			return nil, fmt.Errorf("run %s: %w", name, err)
		case !json.Valid(text):
			return nil, fmt.Errorf("run %s: %s is no JSON", name, file)
		}
		out[key] = json.RawMessage(text)
	}
	if r.Charts != nil {
		if a, err := r.readCharted(root.FS(), name); err != nil {
			out["no_charts"] = err.Error()
		} else {
			out["charts"] = r.Charts(a)
		}
	}
	return out, nil
}

// incomparable is the judge's reason why two runs cannot be compared.
type incomparable struct{ error }

func (incomparable) Incomparable() bool { return true }
func (e incomparable) Unwrap() error    { return e.error }

// Compare compares run b with run a; nil without an error where there is no such run. It gives up between two runs when
// ctx ends.
func (r Runs) Compare(ctx context.Context, a, b string) (any, error) {
	root, err := os.OpenRoot(r.Dir)
	if err != nil {
		return nil, fmt.Errorf("the folder of runs cannot be read: %w", err)
	}
	defer root.Close() //nolint:errcheck // only read
	var read [2]*Archive
	for i, name := range []string{a, b} {
		if !fs.ValidPath(name) {
			return nil, nil //nolint:nilnil // as documented
		}
		if _, err := fs.Stat(root.FS(), name+"/"+ResultsFile); errors.Is(err, fs.ErrNotExist) {
			return nil, nil //nolint:nilnil // as documented
		}
		if read[i], err = r.readCharted(root.FS(), name); err != nil {
			return nil, fmt.Errorf("run %s: %w", name, err)
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	v, err := r.Judge(read[0], read[1])
	if err != nil {
		return nil, incomparable{err}
	}
	return v, nil
}

// maxCharted bounds the files of a run whose charts are drawn, bytes.
const maxCharted = 256 << 20

// readCharted reads a run for its charts, unless it is too large; no link leads out of the folder of runs.
func (r Runs) readCharted(files fs.FS, name string) (*Archive, error) {
	var size int64
	for _, file := range []string{ResultsFile, ManifestFile, RequestsFile, SeriesFile} {
		if info, err := fs.Stat(files, name+"/"+file); err == nil {
			size += info.Size()
		}
	}
	if size > maxCharted {
		return nil, fmt.Errorf("the run's files have %d MiB, more than the %d that are read here: `wattline report` and `wattline compare` read them", size>>20, maxCharted>>20)
	}
	files, err := fs.Sub(files, name)
	if err != nil {
		return nil, err
	}
	return readFrom(files, filepath.Join(r.Dir, name))
}
