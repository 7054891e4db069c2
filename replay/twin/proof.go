package twin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"wattline/replay"
	"wattline/replay/archive"
	"wattline/replay/table"
)

// Report prints the proof, and writes it into the run's folder; "": there is none. A nil Proof says nothing.
func (p *Proof) Report(w io.Writer, dir string) (err error) {
	if p == nil {
		return nil
	}
	if dir != "" {
		err = p.write(dir)
	}
	p.print(w)
	return err
}

func (p *Proof) write(dir string) error {
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return fmt.Errorf("twin: %w", err)
	}
	return archive.ReplaceFile(filepath.Join(dir, archive.ProofFile), append(text, '\n'))
}

// RunOf names a run and what it sent: a proof is of one run alone.
func RunOf(run *replay.Run) string {
	salt := uint64(0)
	if r := run.Plan.Recording; r != nil {
		salt = r.Salt
	}
	return fmt.Sprintf("%s %016x %s", run.StartedAt.UTC().Format(time.RFC3339Nano), salt, run.Plan.Hash)
}

// ReadProof reads the proof of a run from its folder, nil where it has none. One of another run proves nothing, and says so.
func ReadProof(dir string, run *replay.Run) (*Proof, error) {
	if run.Plan.Recording == nil {
		return nil, nil //nolint:nilnil // as documented
	}
	path := filepath.Join(dir, archive.ProofFile)
	text, err := os.ReadFile(path) //nolint:gosec // the user names the folder
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // as documented
	}
	p := &Proof{}
	if err == nil {
		err = json.Unmarshal(text, p)
	}
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", path, err)
	}
	if p.Run != RunOf(run) {
		return &Proof{Trace: p.Trace, Run: p.Run, Why: []string{fmt.Sprintf("%s is the proof of another run: replay the trace again", path)}}, nil
	}
	return p, nil
}

// print prints the proof for people.
func (p *Proof) print(w io.Writer) {
	out := table.Plain(w)
	verdict := "PROVEN: this twin does what was recorded"
	switch {
	case !p.Passed:
		verdict = "NOT PROVEN: compare gives no verdict from this twin"
	case !p.Joules:
		verdict += ", but for joules, which were not measured"
	}
	fmt.Fprintf(out, "\nTwin, against what was recorded (A/A): %s\n\n", verdict)
	t := table.New(w, "measure", "recorded", "twin", "difference", "95 % interval", "bound", "")
	for i := range p.Measures {
		m := &p.Measures[i]
		if m.State == NotMeasured {
			t.Row(m.Title, table.Absent, table.Absent, table.Absent, table.Absent, table.Absent, string(m.State)+": "+m.Why)
			continue
		}
		t.Row(m.Title, table.Num(m.A)+" "+m.Unit, table.Num(m.B)+" "+m.Unit, fmt.Sprintf("%+.1f %%", m.Percent.V),
			fmt.Sprintf("%+.1f .. %+.1f %%", m.Low.V, m.High.V), fmt.Sprintf("%.1f %%", m.Bound.V), string(m.State))
	}
	t.Render()
	fmt.Fprintf(out, "\ncached tokens of each request: %s\n", p.Cached)
	for _, why := range p.Why {
		fmt.Fprintf(out, "- not proven: %s\n", why)
	}
	for _, note := range p.Notes {
		fmt.Fprintf(out, "- %s\n", note)
	}
}
