package twin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"wattline/replay/archive"
	"wattline/replay/table"
)

// ProofFile is the proof's file in a run's folder.
const ProofFile = "twin.json"

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
	return archive.ReplaceFile(filepath.Join(dir, ProofFile), append(text, '\n'))
}

// ReadProof reads the proof of a run's folder, nil where it has none.
func ReadProof(dir string) (*Proof, error) {
	path := filepath.Join(dir, ProofFile)
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
			t.Row(m.Title, table.Absent, table.Absent, table.Absent, table.Absent, table.Absent, string(m.State))
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
}
