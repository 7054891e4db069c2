// Package html writes runs of replay as one self-contained page: tables, verdicts and charts, with the
// chart library (Apache ECharts 6.1.0, see README.md) and all data inside. It needs no network, and a
// browser that runs no scripts still shows every table.
package html

import (
	_ "embed" // the page and its scripts
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"strings"

	"wattline/replay/report"
)

//go:embed page.html
var pageText string

//go:embed report.js
var reportScript string

//go:embed echarts.common.min.js
var chartLibrary string

// page is the template's data.
type page struct {
	Title      string
	Runs       []section
	Comparison *report.Table   // nil for one run
	Effects    []template.HTML // of each further run against the first
	Data       template.JS
	Library    template.JS
	Script     template.JS
}

// section is one run.
type section struct {
	Label, Subtitle string
	Valid           bool
	Failures        []string
	Skipped         []string // names of checks
	Tiles           []report.Tile
	Tables          []report.Table
	Notes           []string
}

// Write writes the page of one run, or of several side by side.
func Write(w io.Writer, runs []report.LabelledRun) error {
	t, err := template.New("page").Parse(pageText)
	if err != nil {
		return fmt.Errorf("html: %w", err)
	}
	data, err := json.Marshal(chartsOf(runs))
	if err != nil {
		return fmt.Errorf("html: %w", err)
	}
	p := page{
		Title:   runs[0].Results.Model + " performance",
		Data:    template.JS(data), //nolint:gosec // json.Marshal escapes <, > and &
		Library: inScript(chartLibrary), Script: inScript(reportScript),
	}
	for _, run := range runs {
		p.Runs = append(p.Runs, sectionOf(run))
	}
	if len(runs) > 1 {
		p.Comparison = report.ComparisonTable(runs)
		for _, run := range runs[1:] {
			section, err := report.Effects(runs[0], run)
			if err != nil {
				return err
			}
			p.Effects = append(p.Effects, section)
		}
	}
	if err := t.Execute(w, p); err != nil {
		return fmt.Errorf("html: %w", err)
	}
	return nil
}

// inScript makes sure that a script does not end the element that it stands in.
func inScript(s string) template.JS {
	return template.JS(strings.ReplaceAll(s, "</script", `<\/script`)) //nolint:gosec // our own files
}

func sectionOf(run report.LabelledRun) section {
	r := run.Results
	s := section{Label: run.Label, Valid: r.Valid, Tiles: report.Tiles(run), Tables: report.Tables(run), Notes: report.Notes(run)}
	s.Subtitle = report.Subtitle(r)
	s.Failures, s.Skipped = report.Verdict(r)
	return s
}
