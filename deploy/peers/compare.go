package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// outcomes are one test's, by way and then outcome, with a message of a failure.
type outcomes map[string]map[string]string

// results are all tests' by name.
type results map[string]outcomes

// add reads pytest's report of one run.
func (all results) add(way, file string) error {
	text, err := os.ReadFile(file) //nolint:gosec // written by this run
	if err != nil {
		return err
	}
	type problem struct {
		Message string `xml:"message,attr"`
	}
	var report struct {
		Cases []struct {
			Class   string   `xml:"classname,attr"`
			Name    string   `xml:"name,attr"`
			Failure *problem `xml:"failure"`
			Error   *problem `xml:"error"`
			Skipped *problem `xml:"skipped"`
		} `xml:"testsuite>testcase"`
	}
	if err := xml.Unmarshal(text, &report); err != nil {
		return fmt.Errorf("pytest's report %s: %w", file, err)
	}
	for _, c := range report.Cases {
		name := strings.TrimPrefix(c.Class, "unit.") + "::" + c.Name
		outcome, message := "passed", ""
		for _, p := range []struct {
			outcome string
			problem *problem
		}{{"failed", c.Failure}, {"failed", c.Error}, {"skipped", c.Skipped}} {
			if p.problem != nil {
				outcome, message = p.outcome, p.problem.Message
			}
		}
		if all[name] == nil {
			all[name] = outcomes{direct: {}, through: {}}
		}
		all[name][way][outcome] = message
	}
	return nil
}

// compare prints how many tests ended how, and those that differ: no outcome of the one way is one of the other.
func compare(out io.Writer, all results) (differ int) {
	for _, way := range []string{direct, through} {
		counts := map[string]int{}
		for _, o := range all {
			counts[o.describe(way)]++
		}
		fmt.Fprintf(out, "%-8s", way+":")
		for i, what := range slices.Sorted(maps.Keys(counts)) {
			fmt.Fprintf(out, "%s %d %s", map[bool]string{true: ","}[i > 0], counts[what], what)
		}
		fmt.Fprintln(out)
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		o := all[name]
		shared := false
		for outcome := range o[direct] {
			_, also := o[through][outcome]
			shared = shared || also
		}
		if shared {
			continue
		}
		differ++
		fmt.Fprintf(out, "differs: %s: %s direct, %s through wattline\n", name, o.describe(direct), o.describe(through))
		for _, way := range []string{direct, through} {
			if message := o[way]["failed"]; message != "" {
				first, _, _ := strings.Cut(message, "\n")
				fmt.Fprintf(out, "  %s: %.300s\n", way, first)
			}
		}
	}
	fmt.Fprintf(out, "%d tests, %d of them differ\n", len(all), differ)
	return differ
}

// describe lists the outcomes of one way.
func (o outcomes) describe(way string) string {
	if len(o[way]) == 0 {
		return "not run"
	}
	return strings.Join(slices.Sorted(maps.Keys(o[way])), " and ")
}
