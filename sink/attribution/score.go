package attribution

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"

	"wattline/meter/energy/recording"
)

// truthFile is the truth about a recording's requests (meter/energy/RULER.md).
const truthFile = "truth.csv"

// ScoredRecording is how far each method is off on one recording.
type ScoredRecording struct {
	Name   string
	Scores []recording.Score // by method
	Kinds  map[string]recording.Score
	Order  []string // of Kinds
}

// Score scores the ledger and simpler methods against truth: a folder that holds a recording and truth.csv, a folder of such
// folders, or a CSV file beside a recording. dir, if not empty, is the recording. answers, if not empty, is another tool's
// CSV file.
func Score(truth, dir, answers string) ([]ScoredRecording, error) {
	info, err := os.Stat(truth)
	if err != nil {
		return nil, fmt.Errorf("attribute --score: %w", err)
	}
	var found []string
	switch {
	case !info.IsDir():
		found = []string{truth}
	case dir != "" || fileExists(truth, requestsFile):
		found = []string{filepath.Join(truth, truthFile)}
	default:
		entries, err := os.ReadDir(truth)
		if err != nil {
			return nil, fmt.Errorf("attribute --score: %w", err)
		}
		for _, e := range entries {
			if at := filepath.Join(truth, e.Name()); e.IsDir() && fileExists(at, truthFile) {
				found = append(found, filepath.Join(at, truthFile))
			}
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("attribute --score: no folder in %s holds a recording with %s (meter/energy/RULER.md says how to make one)", truth, truthFile)
	}
	if answers != "" && len(found) > 1 {
		return nil, fmt.Errorf("attribute --answers belongs to one recording, and %s holds %d", truth, len(found))
	}
	var out []ScoredRecording
	for _, at := range found {
		of := dir
		if of == "" {
			of = filepath.Dir(at)
		}
		s, err := scoreOne(at, of, answers)
		if err != nil {
			return nil, fmt.Errorf("attribute --score: %s: %w", at, err)
		}
		out = append(out, s)
	}
	return out, nil
}

func fileExists(dir, name string) bool {
	for _, n := range []string{name, name + ".gz"} {
		if _, err := os.Stat(filepath.Join(dir, n)); err == nil {
			return true
		}
	}
	return false
}

func scoreOne(truth, dir, answers string) (out ScoredRecording, err error) {
	out = ScoredRecording{Name: filepath.Base(dir), Kinds: map[string]recording.Score{}}
	rec, err := ReadRecording(dir, "")
	if err != nil {
		return out, err
	}
	known, err := rec.Truth(truth)
	if err != nil {
		return out, err
	}
	ruler, err := recording.NewRuler(rec.Device, rec.Traffic, known)
	if err != nil {
		return out, err
	}
	results := rec.Attribute(method, recording.Best).Results
	for _, m := range recording.Methods {
		out.Scores = append(out.Scores, ruler.Score(m, "", ruler.Answers(m, results)))
	}
	mine := ruler.Answers(recording.Methods[0], results)
	if answers != "" {
		if mine, err = readAnswers(answers, rec, ruler); err != nil {
			return out, err
		}
		out.Scores = append(out.Scores, ruler.Score(filepath.Base(answers), "", mine))
	}
	for _, k := range ruler.Kinds() {
		out.Kinds[k] = ruler.Score(out.Scores[len(out.Scores)-1].Method, k, mine)
		if answers == "" {
			out.Kinds[k] = ruler.Score(method, k, mine)
		}
		out.Order = append(out.Order, k)
	}
	return out, nil
}

// Truth reads path, or path.gz. Where there is none the recording may have measured the truth itself: every coalition of a
// few requests was run.
func (r *Recording) Truth(path string) ([]recording.True, error) {
	f, err := openPlainOrGzip(path)
	if errors.Is(err, fs.ErrNotExist) {
		truth, err := recording.CoalitionTruth(r.Device, r.Traffic)
		if err != nil {
			return nil, fmt.Errorf("there is no %s, and the recording measured no truth: %w", truthFile, err)
		}
		return truth, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	return recording.ReadTruth(f, r.Traffic)
}

func readAnswers(path string, rec *Recording, ruler *recording.Ruler) (map[int]recording.Answer, error) {
	f, err := openPlainOrGzip(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	answers, total, err := recording.ReadAnswers(f, rec.Traffic)
	if err == nil && total {
		answers = ruler.Active(answers)
	}
	return answers, err
}

// WriteTruth writes truth.csv: measured shares where every coalition was run, else what the ledger makes of requests that
// tell when each of them really ran (the server's own log), with an error of at least 3 %.
func (r *Recording) WriteTruth(w io.Writer) error {
	truth, err := recording.CoalitionTruth(r.Device, r.Traffic)
	if err == nil {
		return recording.WriteTruth(w, truth)
	}
	got := r.Attribute(method, recording.Best)
	truth = nil
	for i, x := range got.Results {
		q := &r.Traffic.Requests[i]
		kind, _, _ := strings.Cut(q.Tag[strings.IndexByte(q.Tag, ':')+1:], "/")
		j := float64(x.ActiveUJ) / 1e6
		truth = append(truth, recording.True{
			Request: i, Run: "all", Kind: kind, Joules: j, Error: math.Hypot(float64(x.ActiveSigmaUJ)/1e6, 0.03*j), IdleW: got.IdleMW / 1e3,
		})
	}
	return recording.WriteTruth(w, truth)
}

// openPlainOrGzip opens path, or path.gz unpacked.
func openPlainOrGzip(path string) (io.ReadCloser, error) {
	f, err := os.Open(path) //nolint:gosec // the user names it
	if err == nil && !strings.HasSuffix(path, ".gz") {
		return f, nil
	}
	if err != nil {
		var zerr error
		if f, zerr = os.Open(path + ".gz"); zerr != nil { //nolint:gosec // likewise
			return nil, err
		}
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", f.Name(), err), f.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{z, f}, nil
}
