package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"wattline/replay"
	"wattline/replay/archive"
	"wattline/replay/sweep"
)

// sweep runs the workload at several loads.
func (c *replayRunCmd) sweep(a *app) error {
	plan, err := sweep.Parse(c.Sweep)
	switch {
	case err != nil:
		return usageError("--sweep: %w", err)
	case c.Concurrency != 0 || c.Rate != 0 || c.Stress:
		return usageError("--sweep sets the load: leave out --concurrency, --rate and --stress")
	case plan.Auto && c.Trace != "":
		return usageError("--sweep rate=auto needs a workload that can be sent at any rate, and a trace has its own times: give --sweep concurrency=1,2,4, or --speed")
	case plan.Auto && len(c.Goodput) == 0:
		return usageError("--sweep %w", sweep.ErrNoObjectives)
	}
	budget := time.Duration(c.Budget)
	if budget == 0 && plan.Auto {
		budget = sweep.DefaultBudget
	}
	out := c.Out
	if out != "" { // each point is a folder in it
		err := sweep.Free(out)
		if err == nil {
			err = archive.CheckOutputs(filepath.Join(out, "point"), "")
		}
		if err != nil {
			return usageError("%w", err)
		}
	}
	s, cfg, err := c.open(a)
	if err != nil {
		return err
	}
	defer s.Close()
	res, failure := sweep.Run(a.ctx, sweep.Config{
		Session: s, Plan: plan, Spec: cfg.Spec, Budget: budget, Objectives: cfg.Objectives, Say: cfg.Say,
		Keep: func(name string, run *replay.Run) error {
			if out == "" {
				return nil
			}
			return archive.Write(filepath.Join(out, name), archive.Manifest{Wattline: version(), Argv: os.Args, Host: archive.ThisHost()}, run, run.Results())
		},
	})
	if len(res.Points) == 0 {
		return failure
	}
	if err := res.Write(c.Out, c.JSONOut); err != nil {
		return err
	}
	res.Terminal(a.stdout)
	if failure != nil {
		return fmt.Errorf("the sweep ended half-way, what was measured is above: %w", failure)
	}
	if slices.ContainsFunc(res.Points, func(p sweep.Point) bool { return len(p.Failed) > 0 }) {
		return &exitError{exitInvalid, errors.New("a point of the sweep is INVALID; the checks that failed are above")}
	}
	return nil
}
