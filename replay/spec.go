package replay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

// Cache is the mode of the server's prompt cache.
type Cache string

// The cache modes.
const (
	Cold    Cache = "cold"    // every prompt is new from its first word, and the server is told to reuse nothing
	Warm    Cache = "warm"    // every prompt has been sent before
	Natural Cache = "natural" // every prompt is new, and the server may reuse what it holds
)

// Length is how the length of a reply is decided.
type Length string

// The lengths of replies. A run has one of them: forced and natural replies never meet in one mean.
const (
	Forced        Length = "forced"  // exactly as many tokens as asked for (ignore_eos)
	NaturalLength Length = "natural" // the model ends where it wants, at the latest after as many tokens as asked for
)

// Arrival is how the requests of an open loop are spaced.
type Arrival string

// The arrival processes of an open loop.
const (
	Poisson  Arrival = "poisson"  // independent clients
	Constant Arrival = "constant" // equal gaps
	Gamma    Arrival = "gamma"    // Burstiness below 1 is more even than Poisson, above 1 burstier
)

// Spec describes a run as the user asks for it. A field's zero value takes its default; see [Spec.Complete].
type Spec struct {
	Name         string   `yaml:"name" json:"name"`
	Tasks        []string `yaml:"tasks" json:"tasks"`
	PromptSizes  Sizes    `yaml:"prompt_sizes" json:"prompt_sizes"`
	OutputTokens Sizes    `yaml:"output_tokens" json:"output_tokens"`
	// Dataset is the path of a file with the user's own requests, see [ReadDataset]. It replaces Tasks, PromptSizes and
	// Cells; OutputTokens then has one size, for records that have none.
	Dataset string `yaml:"dataset" json:"dataset,omitempty"`
	// Trace is the name of the trace that is sent instead. Concurrency is then a limit; 0: none.
	Trace string `yaml:"-" json:"trace,omitempty"`
	// Cells are combinations of their own, instead of the whole grid of the three lists.
	Cells []Cell `yaml:"cells" json:"cells,omitempty"`

	Cache  Cache  `yaml:"cache" json:"cache"`
	Length Length `yaml:"length" json:"length"`

	// Requests are sent per cell and trial. With Duration they are a lower bound of one.
	Requests int `yaml:"requests" json:"requests"`
	Trials   int `yaml:"trials" json:"trials"`
	// Duration is the time to fill with requests, divided equally among cells and trials.
	Duration Seconds `yaml:"duration" json:"duration_s"`

	// Concurrency is how many requests a closed loop keeps in flight; Rate (requests a second) makes an
	// open loop instead.
	Concurrency int     `yaml:"concurrency" json:"concurrency"`
	Rate        float64 `yaml:"rate" json:"rate"`
	Arrival     Arrival `yaml:"arrival" json:"arrival"`
	Burstiness  float64 `yaml:"burstiness" json:"burstiness"`

	Pause Seconds `yaml:"pause" json:"pause_s"` // between cells
	Seed  uint64  `yaml:"seed" json:"seed"`
}

// Seconds is a time that is written as a number of seconds or with its unit: 120, 2m.
type Seconds time.Duration

// ParseSeconds reads 120, 1.5, 90s or 2m.
func ParseSeconds(s string) (Seconds, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		d, err = time.ParseDuration(s + "s")
	}
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is no time: write 120, 90s or 2m", s)
	}
	return Seconds(d), nil
}

// UnmarshalText is ParseSeconds, for flags.
func (s *Seconds) UnmarshalText(b []byte) (err error) {
	*s, err = ParseSeconds(string(b))
	return err
}

// UnmarshalYAML reads a number of seconds, or a time with its unit.
func (s *Seconds) UnmarshalYAML(unmarshal func(any) error) error {
	var v any
	if err := unmarshal(&v); err != nil {
		return err
	}
	return s.UnmarshalText(fmt.Append(nil, v))
}

// MarshalJSON writes seconds.
func (s Seconds) MarshalJSON() ([]byte, error) { return Some(time.Duration(s).Seconds()).MarshalJSON() }

// UnmarshalJSON reads seconds.
func (s *Seconds) UnmarshalJSON(b []byte) error { return s.UnmarshalText(b) }

// Quick is the grid that runs unless another is asked for: the guide's prompt sizes, output sizes and
// tasks, each varied alone.
func Quick() Spec {
	return Spec{Name: "quick", Cells: []Cell{
		{Task: "coding", PromptTokens: 1000, OutputTokens: 256},
		{Task: "coding", PromptTokens: 10000, OutputTokens: 256},
		{Task: "coding", PromptTokens: 100000, OutputTokens: 256},
		{Task: "coding", PromptTokens: 1000, OutputTokens: 16},
		{Task: "coding", PromptTokens: 1000, OutputTokens: 1024},
		{Task: "list", PromptTokens: 1000, OutputTokens: 256},
	}}
}

// Full is every combination of the guide's prompt sizes, output sizes and tasks.
func Full() Spec {
	return Spec{
		Name: "full", Tasks: []string{"coding", "list"},
		PromptSizes: Sizes{1000, 10000, 100000}, OutputTokens: Sizes{16, 256, 1024},
	}
}

// Stress keeps twice as many requests in flight as the server has slots.
func Stress(slots int) Spec {
	return Spec{
		Name: "stress", Tasks: []string{"coding"}, PromptSizes: Sizes{1000}, OutputTokens: Sizes{256},
		Concurrency: 2 * max(slots, 1), Cache: Cold,
	}
}

// ReadSpec reads a workload from YAML or JSON. Keys are those of the flags, with _ or -.
func ReadSpec(text []byte) (Spec, error) {
	var raw, more map[string]any
	documents := yaml.NewDecoder(bytes.NewReader(text))
	if err := documents.Decode(&raw); err != nil && !errors.Is(err, io.EOF) {
		return Spec{}, fmt.Errorf("it is neither YAML nor JSON of the form key: value; correct %s", yamlError(err))
	}
	if _ = documents.Decode(&more); len(more) > 0 {
		return Spec{}, errors.New("it holds more than one document, and a run has one workload")
	}
	alias := map[string]string{"task": "tasks", "max_output_tokens": "output_tokens", "prompt_tokens": "prompt_sizes"}
	keyed := map[string]any{}
	for k, v := range raw {
		k = strings.ReplaceAll(k, "-", "_")
		if a, ok := alias[k]; ok {
			k = a
		}
		if s, ok := v.(string); ok && k == "tasks" {
			v = strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
		}
		keyed[k] = v
	}
	again, err := yaml.Marshal(keyed)
	if err != nil {
		return Spec{}, err
	}
	s := Spec{Name: "custom"}
	if err := yaml.NewDecoder(bytes.NewReader(again), yaml.Strict()).Decode(&s); err != nil {
		return Spec{}, fmt.Errorf("it is not a workload: %s", message(err))
	}
	return s, nil
}

// yamlError is an error of the YAML library in one line: where, and what is wrong there.
func yamlError(err error) string {
	var e yaml.Error
	if errors.As(err, &e) && e.GetToken() != nil {
		at := e.GetToken().Position
		return fmt.Sprintf("line %d, column %d: %s", at.Line, at.Column, message(err))
	}
	return message(err)
}

// message says what is wrong, without where.
func message(err error) string {
	text := err.Error()
	if e, ok := errors.AsType[yaml.Error](err); ok {
		text = e.GetMessage()
	}
	first, _, _ := strings.Cut(text, "\n")
	return first
}

// Complete fills in defaults and returns an error for settings that exclude each other or are out of range. tasks are
// the names of the known tasks.
func (s Spec) Complete(tasks []string) (Spec, error) {
	if s.Name == "" {
		s.Name = "custom"
	}
	if s.Trace != "" {
		s.Cache = cmpOr(s.Cache, Natural)
	} else if s.Dataset != "" {
		s.OutputTokens = orDefault(s.OutputTokens, Sizes{256})
	} else if len(s.Cells) == 0 {
		s.Tasks = orDefault(s.Tasks, []string{"coding"})
		s.PromptSizes = orDefault(s.PromptSizes, Sizes{1000, 10000, 100000})
		s.OutputTokens = orDefault(s.OutputTokens, Sizes{256})
	}
	s.Cache = cmpOr(s.Cache, Cold)
	s.Length = cmpOr(s.Length, Forced)
	s.Arrival = cmpOr(s.Arrival, Poisson)
	s.Burstiness = cmpOr(s.Burstiness, 1)
	s.Trials = cmpOr(s.Trials, 1)
	s.Seed = cmpOr(s.Seed, 1)
	if s.Rate == 0 && s.Trace == "" {
		s.Concurrency = cmpOr(s.Concurrency, 1)
	}
	s.Requests = cmpOr(s.Requests, max(3, 2*s.Concurrency))
	return s, s.refuse(tasks)
}

func (s *Spec) refuse(tasks []string) error {
	named := slices.Clone(s.Tasks)
	for _, c := range s.Cells {
		named = append(named, c.Task)
		if c.PromptTokens <= 0 || c.OutputTokens <= 0 {
			return fmt.Errorf("a cell needs a task, prompt_tokens and output_tokens: %+v", c)
		}
	}
	for _, t := range named {
		if !slices.Contains(tasks, t) {
			return fmt.Errorf("there is no task %q; there are: %s", t, strings.Join(tasks, ", "))
		}
	}
	switch {
	case s.Trace != "" && (s.Rate > 0 || s.Duration > 0 || s.Trials > 1 || len(s.Tasks)+len(s.PromptSizes)+len(s.OutputTokens)+len(s.Cells) > 0 || s.Dataset != ""):
		return fmt.Errorf("a trace has its own requests, lengths and times: leave out rate, duration, trials, tasks, sizes and dataset")
	case s.Trace != "" && (s.Cache != Natural || s.Length != Forced):
		return fmt.Errorf("a trace is sent with cache natural and length forced: leave out --cache and --length")
	case s.Dataset != "" && len(s.Tasks)+len(s.PromptSizes)+len(s.Cells) > 0:
		return fmt.Errorf("a dataset has its own prompts: leave out either it or tasks, prompt sizes and cells")
	case s.Dataset != "" && len(s.OutputTokens) > 1:
		return fmt.Errorf("a dataset takes one output size, for the requests that have none")
	case s.Dataset != "" && s.Cache == Warm:
		return fmt.Errorf("the prompts of a dataset cannot be warm, as they differ: use --cache cold or natural")
	case s.Cache != Cold && s.Cache != Warm && s.Cache != Natural:
		return fmt.Errorf("there is no cache mode %q; there are: cold, warm, natural", s.Cache)
	case s.Length != Forced && s.Length != NaturalLength:
		return fmt.Errorf("there is no length %q; there are: forced, natural", s.Length)
	case s.Arrival != Poisson && s.Arrival != Constant && s.Arrival != Gamma:
		return fmt.Errorf("there is no arrival process %q; there are: poisson, constant, gamma", s.Arrival)
	case !(s.Rate >= 0) || !(s.Burstiness > 0) || math.IsInf(s.Burstiness, 1): // NaN too
		return fmt.Errorf("rate and burstiness are numbers above 0")
	case s.Concurrency < 0 || s.Requests < 0 || s.Trials < 0:
		return fmt.Errorf("concurrency, requests and trials cannot be negative")
	case s.Rate > 0 && s.Concurrency > 0:
		return fmt.Errorf("a closed loop has a concurrency, an open loop a rate: give one of them")
	case s.Concurrency > maxConcurrency || s.Rate > maxRate:
		return fmt.Errorf("concurrency is at most %d and rate at most %d a second", maxConcurrency, maxRate)
	case s.Requests > maxRequests || s.Trials > maxTrials || s.Rate*time.Duration(s.Duration).Seconds() > maxRequests:
		return fmt.Errorf("a cell has at most %d requests (or rate x duration), and there are at most %d trials", maxRequests, maxTrials)
	}
	return nil
}

// Limits, because a plan and the prompts of a cell are held in memory.
const (
	maxConcurrency = 4096
	maxRate        = 10000
	maxRequests    = 1_000_000
	maxTrials      = 10_000
)

func orDefault[T ~[]E, E any](v, def T) T {
	if len(v) == 0 {
		return def
	}
	return v
}

func cmpOr[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
