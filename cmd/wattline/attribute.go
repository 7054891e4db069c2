package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"wattline/cmd/wattline/internal/term"
	"wattline/meter/energy"
	"wattline/meter/energy/recording"
	"wattline/sink/attribution"
)

type attributeCmd struct {
	Dir  string `arg:"" optional:"" help:"Folder that \"wattline serve --record\" wrote." placeholder:"DIR"`
	Rule string `help:"Rule to divide the joules by: ${enum}." enum:"phase,time,token" default:"phase"`
	JSON bool   `help:"Print one JSON object per request, in the order of requests.jsonl, and one for the ledger." name:"json"`

	Score   string `help:"Score the ledger and simpler methods against the truth: a recording with truth.csv, or a folder of such recordings. meter/energy/RULER.md has the format." placeholder:"TRUTH"`
	Answers string `help:"With --score: score another tool too, from a CSV of request, joules, sigma." placeholder:"FILE"`
	Truth   bool   `help:"Print the truth that DIR has measured, as CSV." hidden:""`

	Requests   string `help:"Take the requests from this file of DIR. client.jsonl has them as the client saw them." placeholder:"NAME" default:"requests.jsonl"`
	Coalitions bool   `help:"Compare with measured Shapley shares; the recording must have every coalition of a few requests." hidden:""`
	Shape      string `help:"Power readings of the recording to use: ${enum}." enum:"best,counter,average" default:"best" hidden:""`
}

// Run divides the joules of a recording among its requests, with the same ledger as serve.
func (c *attributeCmd) Run(a *app) error {
	if c.Score != "" {
		all, err := attribution.Score(c.Score, c.Dir, c.Answers)
		if err == nil {
			term.Scores(a.stdout, all)
		}
		return err
	}
	if c.Dir == "" {
		return &exitError{exitUsage, errors.New("attribute: name the folder of a recording (make one with `wattline serve --record DIR`), or use --score")}
	}
	rec, err := attribution.ReadRecording(c.Dir, c.Requests)
	if err != nil {
		return err
	}
	if c.Truth {
		return rec.WriteTruth(a.stdout)
	}
	sources := map[string]recording.Sources{"counter": recording.CounterOnly, "average": recording.AverageOnly}[c.Shape]
	got := rec.Attribute(c.Rule, sources)
	switch {
	case c.Coalitions:
		return compareCoalitions(a.stdout, rec, got.Results)
	case c.JSON:
		return rec.WriteJSON(a.stdout, got, c.Rule)
	}
	term.Attributed(a.stdout, rec, got, c.Rule)
	return nil
}

// compareCoalitions prints the ledger's shares beside the measured ones, and fails if they differ by more than the
// release limit.
func compareCoalitions(w io.Writer, rec *attribution.Recording, results []energy.Result) error {
	shares, err := recording.Coalitions(rec.Device, rec.Traffic, results)
	if err != nil {
		return fmt.Errorf("attribute: %w", err)
	}
	term.Coalitions(w, shares)
	if bad := recording.Exceeding(shares); len(bad) > 0 {
		return &exitError{exitInvalid, fmt.Errorf("attribute: %s", strings.Join(bad, "; "))}
	}
	return nil
}
