package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/alecthomas/kong"

	"wattline/cmd/wattline/internal/configfile"
	"wattline/cmd/wattline/internal/setup"
	"wattline/proxy"
)

// initCmd writes a first configuration for the user who runs it.
type initCmd struct {
	Systemd  bool   `help:"Also write a unit for systemctl --user, which needs no root."`
	Upstream string `help:"Address of llama-server, to be set in the file." placeholder:"URL"`
	Listen   string `help:"Address to listen on for clients, to be set in the file." placeholder:"ADDR"`
}

// Run writes the files that are not there yet, says where they are, and what to do next.
func (c *initCmd) Run(a *app, kctx *kong.Context) error {
	dir := configfile.XDG("XDG_CONFIG_HOME", ".config")
	if dir == "" {
		return errors.New("there is no home folder for the files: set HOME or XDG_CONFIG_HOME")
	}
	set := map[string]string{}
	// The file that is there may have both; only what the command line says is written.
	if onCommandLine(kctx, "upstream") {
		if _, err := proxy.ParseUpstream(c.Upstream); err != nil {
			return usageError("%w", err)
		}
		set["upstream"] = c.Upstream
	}
	if onCommandLine(kctx, "listen") {
		set["listen"] = c.Listen
	}
	config := filepath.Join(dir, "wattline", "config.yaml")
	wrote, err := setup.WriteNew(a.stdout, config, setup.Config(kctx.Model, set))
	if err != nil {
		return err
	}
	if !wrote && len(set) > 0 {
		return fmt.Errorf("%s is there already and was left as it is: write --upstream and --listen into it by hand, or move it away", config)
	}
	if !c.Systemd {
		fmt.Fprintf(a.stdout, "next: edit it, then run `wattline serve`; `wattline check` tries it\n")
		return nil
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("the path of this program is not known: %w", err)
	}
	unit := filepath.Join(dir, "systemd", "user", "wattline.service")
	if _, err := setup.WriteNew(a.stdout, unit, setup.UserUnit(program, config)); err != nil {
		return err
	}
	fmt.Fprint(a.stdout, "next: systemctl --user daemon-reload && systemctl --user enable --now wattline\n"+
		"to run it while you are not logged in: loginctl enable-linger\n")
	return nil
}
