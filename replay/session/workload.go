package session

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"wattline/replay"
	"wattline/replay/prompt"
	"wattline/replay/trace"
)

// Workload is a workload as a user names it, in a file and by flags.
type Workload struct {
	File         string // --workload
	Full, Stress bool
	Dataset      string // --dataset: the file with the user's own prompts
	TraceFlags
	Tasks        []string
	PromptSizes  []string
	OutputTokens []string
	Goodput      []string    // the objectives of a reply
	Override     replay.Spec // of it, what is not zero replaces the settings of the workload

	dataset *replay.Dataset
	trace   *trace.Trace
	options trace.Options
}

// TraceFlags are the flags of a recorded workload.
type TraceFlags struct {
	Trace      string `help:"File with a recorded workload without texts: wattline's own, Mooncake, Azure, BurstGPT, Bailian or Weka, gzipped or not." type:"existingfile" placeholder:"FILE" group:"Trace"`
	Speed      string `help:"Speed of the trace: 2x sends it in half the time." placeholder:"X" group:"Trace"`
	Window     string `help:"Part of the trace, counted from its first record: 10m..40m." placeholder:"FROM..TO" group:"Trace"`
	Sample     string `help:"Share of the trace's sessions: 5%." placeholder:"SHARE" group:"Trace"`
	FitContext string `help:"Records of the trace that are longer than the server's context: drop or clip. Without it they are an error." placeholder:"HOW" group:"Trace"`
	Replies    string `help:"Earlier replies in the prompts of a trace's sessions: recorded (a stand-in of the recorded length) or real (what the server gave)." placeholder:"WHICH" group:"Trace"`
}

// Named is the workload quick or full, or that of a file.
func Named(name string) *Workload {
	switch name {
	case "quick", "":
		return &Workload{}
	case "full":
		return &Workload{Full: true}
	}
	return &Workload{File: name}
}

const (
	stressDuration = 5 * time.Minute  // of a stress run without a duration
	quickBudget    = 10 * time.Minute // of the quick grid without a budget
)

// Use reads the workload's files and sets Spec, Dataset, Stress, Objectives and, for the quick grid, Budget.
func (cfg *Config) Use(w *Workload) (err error) {
	if cfg.Spec, err = w.spec(); err != nil {
		return err
	}
	if cfg.Objectives, err = replay.ParseObjectives(w.Goodput); err != nil {
		return fmt.Errorf("--goodput: %w", err)
	}
	if cfg.Budget == 0 && cfg.Spec.Name == "quick" {
		cfg.Budget = quickBudget
	}
	cfg.Dataset, cfg.Trace, cfg.TraceOptions, cfg.Stress = w.dataset, w.trace, w.options, w.Stress
	return nil
}

// spec returns the workload.
func (w *Workload) spec() (replay.Spec, error) {
	s := replay.Quick()
	custom := len(w.Tasks)+len(w.PromptSizes)+len(w.OutputTokens) > 0
	switch {
	case w.File != "":
		text, err := os.ReadFile(w.File)
		if err != nil {
			return s, fmt.Errorf("--workload cannot be read: %w", err)
		}
		if s, err = replay.ReadSpec(text); err != nil {
			return s, fmt.Errorf("--workload %s: %w", w.File, err)
		}
	case w.Full && w.Stress:
		return s, errors.New("--full and --stress exclude each other: give one of them")
	case w.Full:
		s = replay.Full()
	case w.Stress:
		s = replay.Stress(1)
	case w.Trace != "":
		s = replay.Spec{Name: "trace", Trace: filepath.Base(w.Trace)}
	case w.Dataset != "":
		s = replay.Spec{Name: "dataset"}
	case custom:
		s = replay.Spec{Name: "custom"}
	}
	if err := errors.Join(w.readTrace(), w.readDataset(&s)); err != nil {
		return s, err
	}
	var err error
	if len(w.Tasks) > 0 {
		s.Tasks, s.Cells = w.Tasks, nil
	}
	if len(w.PromptSizes) > 0 {
		s.Cells = nil
		if s.PromptSizes, err = replay.ParseSizes(w.PromptSizes); err != nil {
			return s, fmt.Errorf("--prompt-sizes: %w", err)
		}
	}
	if len(w.OutputTokens) > 0 {
		s.Cells = nil
		if s.OutputTokens, err = replay.ParseSizes(w.OutputTokens); err != nil {
			return s, fmt.Errorf("--output-tokens: %w", err)
		}
	}
	w.override(&s)
	if w.Stress {
		if s.Rate == 0 {
			s.Concurrency = w.Override.Concurrency // 0: twice the server's slots, which are not known yet
		}
		if s.Duration == 0 {
			s.Duration = replay.Seconds(stressDuration)
		}
	}
	_, err = s.Complete(prompt.Tasks()) // checks the workload before the server is asked
	return s, err
}

// readTrace reads the file of --trace.
func (w *Workload) readTrace() (err error) {
	if w.options, err = trace.ParseOptions(w.Speed, w.Window, w.Sample, w.FitContext, w.Replies); err != nil {
		return err
	}
	if w.Trace == "" {
		if w.Speed+w.Window+w.Sample+w.FitContext+w.Replies != "" {
			return errors.New("--speed, --window, --sample, --fit-context and --replies choose a part of a trace: give --trace FILE")
		}
		return nil
	}
	if w.File != "" || w.Full || w.Stress || w.Dataset != "" || w.Override.Requests > 0 {
		return errors.New("--trace has its own requests: leave out --workload, --full, --stress, --dataset and --requests")
	}
	w.trace, err = trace.Read(w.Trace)
	return err
}

// readDataset reads the file of --dataset, or of the workload file's key dataset, which is relative to that file.
func (w *Workload) readDataset(s *replay.Spec) error {
	path := s.Dataset
	if w.Dataset != "" {
		if w.Full || len(w.Tasks)+len(w.PromptSizes) > 0 {
			return errors.New("--dataset has its own prompts: leave out --full, --task and --prompt-sizes")
		}
		s.Tasks, s.PromptSizes, s.Cells, s.Dataset = nil, nil, nil, w.Dataset
		path = w.Dataset
	} else if path != "" && !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(w.File), path)
	}
	if path == "" {
		return nil
	}
	text, err := os.ReadFile(path) //nolint:gosec // the user names it
	if err != nil {
		return fmt.Errorf("the dataset cannot be read: %w", err)
	}
	w.dataset, err = replay.ReadDataset(path, text)
	return err
}

// override replaces settings of the workload with those that were given.
func (w *Workload) override(s *replay.Spec) {
	o := &w.Override
	set(&s.Cache, o.Cache)
	set(&s.Length, o.Length)
	set(&s.Requests, o.Requests)
	set(&s.Trials, o.Trials)
	set(&s.Duration, o.Duration)
	set(&s.Seed, o.Seed)
	set(&s.Arrival, o.Arrival)
	set(&s.Burstiness, o.Burstiness)
	set(&s.Pause, o.Pause)
	set(&s.Concurrency, o.Concurrency)
	set(&s.Rate, o.Rate)
}

// set overwrites *to with v unless v is zero.
func set[T comparable](to *T, v T) {
	var zero T
	if v != zero {
		*to = v
	}
}
