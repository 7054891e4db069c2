package setup

import (
	"fmt"
	"strings"
)

// UserUnit is a systemd unit for `systemctl --user`: it runs the program at path with serve and the configuration file.
// A user's manager cannot sandbox by device or capability, so there is less hardening than in deploy/systemd.
func UserUnit(path, config string) string {
	return fmt.Sprintf(`# wattline in front of a llama-server of this user, written by "wattline init --systemd".
# systemctl --user daemon-reload && systemctl --user enable --now wattline

[Unit]
Description=wattline: what did this LLM request cost, in milliseconds and in joules

[Service]
Type=notify
# A successor (SIGUSR2) tells systemd its own pid.
NotifyAccess=all
ExecStart=%s --config=%s serve
ExecReload=/bin/sh -c "kill -HUP $MAINPID"
# After an upgrade the main process is no child of systemd's, which then would not wait for its end but kill it.
ExecStop=/bin/sh -c "kill $MAINPID && while kill -0 $MAINPID 2>/dev/null; do sleep 0.1; done"
# Live requests may go on for --stop-timeout (30 s), rows are written after that.
TimeoutStopSec=60
KillMode=control-group
Restart=always
RestartSec=1
NoNewPrivileges=yes
UMask=0077

[Install]
WantedBy=default.target
`, quoted(path), quoted(config))
}

// quoted makes a path one word of ExecStart: systemd expands % and $ and knows C escapes.
func quoted(path string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "$", "$$").Replace(path) + `"`
}
