// Package html writes runs of replay as one self-contained page: tables, verdicts and charts, with the console's chart code and
// all data inside. It needs no network, and a browser that runs no scripts still shows every table.
package html

import (
	_ "embed" // the page and its script
	"encoding/json"
	"fmt"
	"html/template"
	"io"

	"wattline/replay/report"
	"wattline/sink/console/web"
)

//go:embed page.html
var pageText string

//go:embed report.js
var reportScript string

// page is the template's data.
type page struct {
	Title      string
	Runs       []section
	Comparison *report.Table   // nil for one run
	Effects    []template.HTML // of each further run against the first
	Style      template.CSS
	Modules    template.HTML // an import map that holds the console's modules
	Data       template.HTML
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
	modules, err := web.Inline("lib/html.js", "lib/colour.js", "lib/runcharts.js")
	if err != nil {
		return fmt.Errorf("html: %w", err)
	}
	style, err := web.Style()
	if err != nil {
		return fmt.Errorf("html: %w", err)
	}
	p := page{
		Title: runs[0].Results.Model + " performance",
		Style: template.CSS(style), Script: template.JS(reportScript), //nolint:gosec // our own files
		Modules: script("importmap", "", modules), Data: script("application/json", "data", string(data)),
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

// script is an element with JSON in it, which json.Marshal has kept from ending the element.
func script(kind, id, text string) template.HTML {
	return template.HTML(`<script type="` + kind + `" id="` + id + `">` + text + `</script>`) //nolint:gosec // <, > and & are escaped
}

func sectionOf(run report.LabelledRun) section {
	r := run.Results
	s := section{Label: run.Label, Valid: r.Valid, Tiles: report.Tiles(run), Tables: report.Tables(run), Notes: report.Notes(run)}
	s.Subtitle = report.Subtitle(r)
	s.Failures, s.Skipped = report.Verdict(r)
	return s
}
