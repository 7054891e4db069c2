// Package setup writes what a first installation needs: a configuration file with every setting and its default, and a
// systemd unit for a user without root.
package setup

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// Config is the configuration file as YAML: each flag of all commands and of serve, commented out with its default. The
// settings in set are active instead.
func Config(app *kong.Application, set map[string]string) string {
	var b strings.Builder
	b.WriteString("# wattline's settings. Copy this file to /etc/wattline/config.yaml or ~/.config/wattline/config.yaml and uncomment\n" +
		"# what you change. A flag on the command line wins over the environment variable, which wins over this file.\n" +
		"# SIGHUP reloads certificates, prices, the admin password and hosts, and the log level. SIGUSR2 starts a new\n# process with all settings reloaded.\n")
	document := func(flags []*kong.Flag) {
		for _, f := range flags {
			if f.Hidden || f.Name == "help" || f.Name == "config" {
				continue
			}
			if v, ok := set[f.Name]; ok {
				fmt.Fprintf(&b, "\n%s\n%s: %q\n", wrapped(f), f.Name, v)
				continue
			}
			fmt.Fprintf(&b, "\n%s\n#%s: %s\n", wrapped(f), f.Name, yamlDefault(f))
		}
	}
	document(app.Flags)
	if i := slices.IndexFunc(app.Children, func(n *kong.Node) bool { return n.Name == "serve" }); i >= 0 {
		document(app.Children[i].Flags)
	}
	b.WriteString("\n# Several upstreams, each with its own listener. The keys listen, upstream and labels are then ignored, and\n# their flags are rejected.\n" +
		"#routes:\n#  - name: chat\n#    listen: 127.0.0.1:8080\n#    upstream: http://127.0.0.1:9001\n#    gpus: [\"0\"]\n#    labels: {team: search}\n")
	return b.String()
}

// wrapped returns the flag's help as comment lines.
func wrapped(f *kong.Flag) string {
	words := strings.Fields(f.Help)
	if len(f.Envs) > 0 {
		words = append(words, "("+f.Envs[0]+")")
	}
	var lines []string
	line := "#"
	for _, w := range words {
		if len(line)+1+len(w) > 110 {
			lines = append(lines, line)
			line = "#"
		}
		line += " " + w
	}
	return strings.Join(append(lines, line), "\n")
}

// yamlDefault returns the flag's default as YAML.
func yamlDefault(f *kong.Flag) string {
	switch {
	case !f.HasDefault || f.Default == "":
		return "null"
	case f.IsBool() || f.IsCounter():
		return f.Default
	case f.IsSlice():
		return "[" + strings.ReplaceAll(f.Default, ",", ", ") + "]"
	}
	if strings.ContainsAny(f.Default, ":{}[]#") {
		return fmt.Sprintf("%q", f.Default)
	}
	return f.Default
}
