package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"wattline/replay/proxies"
)

// proxies compares wattline with other proxies between an upstream with known latencies and a load generator.
func (c *benchCmd) proxies(a *app) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	cfg := proxies.Config{
		Executable: exe, RoleArgs: []string{"bench-role"}, Rounds: c.Rounds, Scale: c.Scale, Only: c.Only, Profiles: c.Profiles, UpstreamAt: c.UpstreamAt,
		Scenarios: proxies.Scenarios(c.Window, c.Scale),
		Progress:  func(format string, args ...any) { fmt.Fprintf(a.stderr, format+"\n", args...) },
	}
	if cfg.Peers, err = proxies.ParsePeers(c.Contender); err != nil {
		return usageError("--contender: %w", err)
	}
	if len(c.Loads) > 0 {
		if cfg.Scenarios, err = proxies.Choose(cfg.Scenarios, c.Loads); err != nil {
			return usageError("--loads: %w", err)
		}
	}
	if c.Profiles != "" {
		if err := os.MkdirAll(c.Profiles, 0o750); err != nil {
			return err
		}
	}
	report, err := proxies.Run(a.ctx, cfg)
	if err != nil {
		return err
	}
	report.Command = "wattline " + strings.Join(os.Args[1:], " ")
	if c.Out != "" {
		if err := writeBench(report, c.Out); err != nil {
			return err
		}
	}
	if c.JSON {
		return json.NewEncoder(a.stdout).Encode(report)
	}
	return report.Markdown(a.stdout)
}

// writeBench writes a report as bench.md and bench.json.
func writeBench(r *proxies.Report, dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "bench.json"), append(text, '\n'), 0o600); err != nil {
		return err
	}
	var md strings.Builder
	if err := r.Markdown(&md); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "bench.md"), []byte(md.String()), 0o600)
}

// benchRoleCmd is a hidden command that runs one process of a comparison of proxies.
type benchRoleCmd struct {
	Role     string `arg:"" help:"${enum}." enum:"upstream,relay,reverse,bare"`
	Upstream string `arg:"" help:"HOST:PORT."`
}

// Run serves until the context ends.
func (c *benchRoleCmd) Run(a *app) error {
	return proxies.Serve(a.ctx, c.Role, c.Upstream, a.stdout)
}
