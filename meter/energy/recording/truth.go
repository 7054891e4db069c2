package recording

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"wattline/meter/energy"
)

// True is the true energy of one request, as truth.csv has it (RULER.md). Joules are above the idle draw.
type True struct {
	Request int    // its place among the requests of requests.jsonl, from 0
	Run     string // the experiment that it was a part of
	Share   string // requests that repeat one measurement have the same; Joules is then the mean of all
	Kind    string // what happened to it; may be empty
	Joules  float64
	Error   float64 // standard error of Joules
	IdleW   float64 // the device's idle draw during the run
}

var truthHeader = []string{"request", "run", "share", "kind", "joules", "error", "idle_w"}

// ReadTruth reads truth.csv. Its columns are found by name; request, run, joules and idle_w must be there.
func ReadTruth(f io.Reader, t *Traffic) ([]True, error) {
	var out []True
	err := readTable(f, []string{"request", "run", "joules", "idle_w"}, func(get func(string) string, number func(string) (float64, error)) error {
		var k True
		var err error
		if k.Request, err = t.place(get("request")); err != nil {
			return err
		}
		for name, to := range map[string]*float64{"joules": &k.Joules, "error": &k.Error, "idle_w": &k.IdleW} {
			if *to, err = number(name); err != nil {
				return err
			}
		}
		if k.Run, k.Kind, k.Share = get("run"), get("kind"), get("share"); k.Share == "" {
			k.Share = strconv.Itoa(k.Request)
		}
		if slices.ContainsFunc(out, func(o True) bool { return o.Request == k.Request }) {
			return fmt.Errorf("request %d is there twice", k.Request)
		}
		out = append(out, k)
		return nil
	})
	if err == nil && len(out) == 0 {
		err = errors.New("it names no request")
	}
	if err != nil {
		return nil, fmt.Errorf("truth: %w", err)
	}
	return out, nil
}

// WriteTruth writes truth.csv.
func WriteTruth(f io.Writer, truth []True) error {
	w := csv.NewWriter(f)
	if err := w.Write(truthHeader); err != nil {
		return err
	}
	number := func(v float64) string { return strconv.FormatFloat(v, 'f', 3, 64) }
	for _, k := range truth {
		err := w.Write([]string{strconv.Itoa(k.Request), k.Run, k.Share, k.Kind, number(k.Joules), number(k.Error), number(k.IdleW)})
		if err != nil {
			return err
		}
	}
	w.Flush()
	return w.Error()
}

// Answer is a tool's figure for a request: joules and their standard error.
type Answer struct {
	Joules, Sigma float64
	HasSigma      bool
}

// ReadAnswers reads a tool's answers: a CSV with the columns request and joules, or total_joules, and sigma if the tool has
// it. total says that the joules include the idle draw.
func ReadAnswers(f io.Reader, t *Traffic) (answers map[int]Answer, total bool, err error) {
	answers = map[int]Answer{}
	err = readTable(f, []string{"request"}, func(get func(string) string, number func(string) (float64, error)) error {
		i, err := t.place(get("request"))
		if err != nil {
			return err
		}
		if get("joules") == "" && get("total_joules") == "" {
			return nil // the tool does not know
		}
		a := Answer{HasSigma: get("sigma") != ""}
		total = get("joules") == ""
		if a.Joules, err = number(map[bool]string{false: "joules", true: "total_joules"}[total]); err != nil {
			return err
		}
		if a.Sigma, err = number("sigma"); err != nil {
			return err
		}
		answers[i] = a
		return nil
	})
	if err == nil && len(answers) == 0 {
		err = errors.New("they name no joules: the columns are request, joules (or total_joules) and sigma")
	}
	if err != nil {
		return nil, false, fmt.Errorf("answers: %w", err)
	}
	return answers, total, nil
}

// readTable calls line for each line of a CSV file with a head.
func readTable(f io.Reader, needed []string, line func(get func(string) string, number func(string) (float64, error)) error) error {
	r := csv.NewReader(f)
	r.Comment = '#'
	head, err := r.Read()
	if err != nil {
		return fmt.Errorf("a CSV file with a first line of column names is needed: %w", err)
	}
	for _, name := range needed {
		if !slices.Contains(head, name) {
			return fmt.Errorf("there is no column %q", name)
		}
	}
	for {
		fields, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		get := func(name string) string {
			if i := slices.Index(head, name); i >= 0 {
				return strings.TrimSpace(fields[i])
			}
			return ""
		}
		number := func(name string) (float64, error) {
			text := get(name)
			if text == "" {
				return 0, nil
			}
			v, err := strconv.ParseFloat(text, 64)
			if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
				return 0, fmt.Errorf("%s of request %s is %q, which is no number", name, get("request"), text)
			}
			return v, nil
		}
		if err := line(get, number); err != nil {
			n, _ := r.FieldPos(0)
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
}

// place finds a request by its place or its id.
func (t *Traffic) place(name string) (int, error) {
	if i, err := strconv.Atoi(name); err == nil && i >= 0 && i < len(t.Requests) {
		return i, nil
	}
	if i := slices.IndexFunc(t.Requests, func(q Request) bool { return q.ID == name }); i >= 0 && name != "" {
		return i, nil
	}
	return 0, fmt.Errorf("there is no request %q: it is the place among the %d of requests.jsonl, from 0, or the id of one", name, len(t.Requests))
}

// CoalitionTruth measures the truth of a recording in which every coalition of a few requests was run.
func CoalitionTruth(d *Device, t *Traffic) ([]True, error) {
	shares, err := Coalitions(d, t, make([]energy.Result, len(t.Requests)))
	if err != nil {
		return nil, err
	}
	of := map[string]*Share{}
	for i := range shares {
		of[shares[i].Coalition+":"+shares[i].Who] = &shares[i]
	}
	var out []True
	for i := range t.Requests {
		q := &t.Requests[i]
		name, _, ok := strings.Cut(q.Tag, "/")
		s := of[name+":"+q.Who]
		if !ok || s == nil {
			continue
		}
		out = append(out, True{Request: i, Run: q.Tag, Share: name + ":" + q.Who, Joules: s.True, Error: s.Error, IdleW: s.idleW[q.Tag]})
	}
	return out, nil
}
