package main

import (
	"encoding/json"
	"fmt"
	"time"

	"wattline/replay"
	"wattline/replay/monitor"
	"wattline/replay/session"
	"wattline/replay/table"
	"wattline/sink/console"
)

// monitorCmd looks at a server again and again.
type monitorCmd struct {
	Endpoint string `help:"Address of wattline, or of a llama-server." default:"${endpoint}" placeholder:"URL"`
	Port     int    `help:"The same for a port of this machine, as in the guide." placeholder:"PORT"`
	replayAdminFlags
	APIKeyFile string `help:"File with the API key of the server." type:"existingfile" placeholder:"FILE"`

	Interval replay.Seconds `help:"Time between two looks." default:"15m" placeholder:"TIME"`
	Duration replay.Seconds `help:"How long to look. Default: until it is interrupted." placeholder:"TIME"`
	Passive  bool           `help:"Send nothing: look at the traffic that passes wattline."`
	Out      string         `help:"Append each look to this file as a line of JSON, and learn from those that it has." placeholder:"FILE"`
	Exec     string         `help:"Run this command of the shell when something changed; it gets the line as JSON on its standard input." placeholder:"CMD"`
	JSON     bool           `help:"Print lines of JSON." name:"json"`
}

// Run looks until it is interrupted.
func (c *monitorCmd) Run(a *app) error {
	if c.Interval <= 0 {
		return usageError("--interval is a time above 0")
	}
	if c.Port != 0 {
		c.Endpoint = fmt.Sprintf("http://127.0.0.1:%d", c.Port)
	}
	key, err := readKey(c.APIKeyFile)
	if err != nil {
		return err
	}
	password, err := console.ReadPassword(c.AdminPasswordFile)
	if err != nil {
		return usageError("%w", err)
	}
	w := &monitor.Watch{Out: c.Out, Exec: c.Exec, Agent: "wattline-replay/" + version(), Log: a.log, Print: func(l *monitor.Line) {
		if c.JSON {
			text, _ := json.Marshal(l)
			fmt.Fprintf(a.stdout, "%s\n", text)
			return
		}
		out := table.Plain(a.stdout)
		fmt.Fprintln(out, l.Text())
		for i := range l.Alarms {
			fmt.Fprintln(out, l.Alarms[i].Text())
		}
	}}
	return w.Run(a.ctx, monitor.Config{
		Passive: c.Passive, Interval: time.Duration(c.Interval), Duration: time.Duration(c.Duration),
		Session: session.Config{Endpoint: c.Endpoint, Admin: c.url(), AdminPassword: password, APIKey: key, LoadTimeout: defaultLoadTimeout},
	})
}
