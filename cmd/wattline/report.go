package main

import (
	"bytes"
	"fmt"
	"path/filepath"

	"wattline/replay/archive"
	"wattline/replay/report"
	"wattline/replay/report/html"
)

// reportCmd prints folders that replay --out wrote as tables, and writes pages with charts.
type reportCmd struct {
	Dirs   []string `arg:"" name:"dir" help:"Folders that replay --out wrote; several are compared." type:"existingdir"`
	Label  []string `help:"Names of the runs, in the order of the folders. Default: the folders' names." placeholder:"NAME,..."`
	Format string   `help:"Format of the output: ${enum}. markdown is the guide's comparison report, llama-bench a table like llama-bench's." enum:"terminal,markdown,llama-bench" default:"terminal"`
	HTML   string   `help:"Also write a self-contained page with charts to this file." placeholder:"FILE"`
}

// Run reads all folders, then prints.
func (c *reportCmd) Run(a *app) error {
	if len(c.Label) > 0 && len(c.Label) != len(c.Dirs) {
		return usageError("%d folders need %d labels, not %d", len(c.Dirs), len(c.Dirs), len(c.Label))
	}
	var runs []report.LabelledRun
	for i, dir := range c.Dirs {
		ar, err := archive.Read(dir)
		if err != nil {
			return err
		}
		run := labelled(ar)
		if len(c.Label) > 0 {
			run.Label = c.Label[i]
		}
		runs = append(runs, run)
	}
	if c.HTML != "" {
		if err := writePage(c.HTML, runs); err != nil {
			return err
		}
		fmt.Fprintf(a.stderr, "wrote %s\n", c.HTML)
	}
	switch c.Format {
	case "markdown":
		return report.Markdown(a.stdout, runs)
	case "llama-bench":
		return report.LlamaBench(a.stdout, runs)
	}
	for i, run := range runs {
		if i > 0 {
			fmt.Fprintln(a.stdout)
		}
		if len(runs) > 1 {
			fmt.Fprintf(a.stdout, "=== %s\n", run.Label)
		}
		report.Terminal(a.stdout, run)
	}
	if len(runs) > 1 {
		fmt.Fprintln(a.stdout)
		return report.Comparison(a.stdout, runs)
	}
	return nil
}

// writePage writes the page with charts.
func writePage(path string, runs []report.LabelledRun) error {
	var page bytes.Buffer
	if err := html.Write(&page, runs); err != nil {
		return err
	}
	return archive.ReplaceFile(path, page.Bytes())
}

// labelled returns a folder's run, labelled with the folder's name.
func labelled(ar *archive.Archive) report.LabelledRun {
	return report.LabelledRun{
		Label: filepath.Base(filepath.Clean(ar.Dir)), Results: ar.Results, Run: ar.Run,
		Devices: ar.Manifest.Devices, Flags: ar.Manifest.ServerFlags, Settings: ar.Manifest.Settings, Dir: ar.Dir,
	}
}
