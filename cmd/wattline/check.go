package main

import (
	"fmt"

	"wattline/replay/session"
	"wattline/replay/table"
)

// checkCmd is the quick verification of the guide: one line for each check.
type checkCmd struct {
	Endpoint string `help:"Address of wattline, or of a llama-server." default:"${endpoint}" placeholder:"URL"`
	replayAdminFlags
	APIKeyFile string `help:"File with the API key of the server." type:"existingfile" placeholder:"FILE"`
}

// Run makes the checks.
func (c *checkCmd) Run(a *app) error {
	run := &replayRunCmd{
		Endpoint: c.Endpoint, replayAdminFlags: c.replayAdminFlags, APIKeyFile: c.APIKeyFile, Quiet: true, LoadTimeout: defaultLoadTimeout,
		Task: []string{"coding"}, PromptSizes: []string{"200"}, OutputTokens: []string{"64"}, Requests: 3,
	}
	failed := session.Verify(a.ctx, func() (*session.Session, error) { s, _, err := run.open(a); return s, err }, func(c session.Check) {
		fmt.Fprintf(a.stdout, "%-4s  %-18s%s\n", c.State, c.Name, table.PrintableLines(c.Detail))
	})
	if failed > 0 {
		return fmt.Errorf("checks that failed: %d", failed)
	}
	return nil
}
