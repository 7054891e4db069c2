package main

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"

	"wattline/cmd/wattline/internal/completion"
)

// completionCmd prints what a shell needs to complete wattline's command line.
type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Run prints the script; its first lines say where it belongs.
func (c *completionCmd) Run(a *app) error {
	_, err := fmt.Fprint(a.stdout, completion.Script(c.Shell))
	return err
}

// completeCmd answers the scripts of completionCmd.
type completeCmd struct {
	Words []string `arg:"" optional:"" passthrough:""`
}

// Run prints what may stand in place of the last word, one a line.
func (c *completeCmd) Run(a *app, kctx *kong.Context) error {
	words := c.Words
	if len(words) > 0 && words[0] == "--" {
		words = words[1:]
	}
	if answers := completion.Answers(kctx.Model, words); len(answers) > 0 {
		fmt.Fprintln(a.stdout, strings.Join(answers, "\n"))
	}
	return nil
}
