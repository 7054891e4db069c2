package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"wattline/gpu/sources"
	"wattline/meter"
	"wattline/proxy"
	"wattline/replay/prompt"
	"wattline/sink/metrics"
	"wattline/sink/queries"
	"wattline/sink/store"
)

// Precedence of settings: the flag on the command line, then WATTLINE_<FLAG> in the environment, then the key <flag> in
// the configuration file, then the default. Only routes have no flag.

// Default addresses of serve, and of the commands that connect to it.
const (
	defaultUpstream = "http://127.0.0.1:8080" // llama-server's own default
	defaultListen   = "127.0.0.1:11433"
	defaultAdmin    = "127.0.0.1:11435"
)

// flagDefaults are the values of ${...} in the tags of flags. Each default is defined once, here or in the package that
// uses it.
func flagDefaults() kong.Vars {
	var limits proxy.Config
	limits.SetDefaults()
	kept := store.Retention{}.WithDefaults()
	return kong.Vars{
		"upstream": defaultUpstream, "listen": defaultListen, "admin": defaultAdmin, "endpoint": "http://" + defaultListen,
		"store":               "$STATE_DIRECTORY/wattline.db, else $XDG_STATE_HOME/wattline/wattline.db",
		"clickhouse_password": "$WATTLINE_CLICKHOUSE_PASSWORD, else the systemd credential clickhouse-password",
		"session_headers":     strings.Join(meter.DefaultSessionHeaders(), ","),
		"gpu_sources":         strings.Join(sources.Choices(), ","),
		"max_metric_labels":   strconv.Itoa(metrics.MaxLabels),
		"tasks":               prompt.TaskHelp(),
		"query_label":         queries.DefaultLabel,
		"load_timeout":        shortDuration(defaultLoadTimeout),
		"outcomes":            strings.Join(outcomes(), ", "),
		"usage_keys":          strings.Join(queries.UsageKeys(), ","),

		"max_header_bytes": strconv.Itoa(limits.MaxHeaderBytes), "max_body_bytes": strconv.FormatInt(limits.MaxBodyBytes, 10),
		"max_conns": strconv.Itoa(limits.MaxConns), "max_requests": strconv.Itoa(limits.MaxRequests),
		"keep_alive_idle": shortDuration(limits.KeepAliveIdle), "header_idle": shortDuration(limits.HeaderIdle), "body_idle": shortDuration(limits.BodyIdle),
		"write_idle": shortDuration(limits.WriteIdle), "upstream_idle": shortDuration(limits.UpstreamIdle),

		"keep_requests": shortDuration(kept.Requests), "keep_samples": shortDuration(kept.Samples), "max_store_bytes": strconv.FormatInt(kept.MaxBytes, 10),
	}
}

// shortDuration prints 1h instead of 1h0m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// route is one listener and its upstream, an entry of routes in the configuration file.
type route struct {
	Name     string            `yaml:"name"`
	Listen   string            `yaml:"listen"`
	Upstream string            `yaml:"upstream"`
	GPUs     []string          `yaml:"gpus"`
	Labels   map[string]string `yaml:"labels"`
}

// configFile is the content of the configuration file; the zero value means that there is none. It is kong's resolver
// for flags that neither the command line nor the environment sets.
type configFile struct {
	path   string
	values map[string]any
	routes []route
}

// readConfig reads the file that --config or WATTLINE_CONFIG names, else the first default file that exists.
func readConfig(args []string) (*configFile, error) {
	path, named := configPath(args)
	if path == "" {
		return &configFile{}, nil
	}
	text, err := os.ReadFile(path) //nolint:gosec // the user names it
	if errors.Is(err, fs.ErrNotExist) && !named {
		return &configFile{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the configuration file cannot be read: %w", err)
	}
	f := &configFile{path: path}
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // the byte order mark of some editors
	var doc *ast.File
	err = recoverYAML(func() (err error) { doc, err = parser.ParseBytes(text, 0); return err })
	if err == nil && len(doc.Docs) > 1 && doc.Docs[1].Body != nil {
		return nil, fmt.Errorf("the configuration file %s has several YAML documents: leave one, because only the first would be used", path)
	}
	if err == nil {
		err = recoverYAML(func() error { return yaml.Unmarshal(text, &f.values) })
	}
	if err != nil {
		return nil, fmt.Errorf("the configuration file %s is not valid YAML of the form key: value; correct %s", path, yamlErrorLine(err))
	}
	if _, ok := f.values["routes"]; ok {
		if err := recoverYAML(func() (err error) { f.routes, err = readRoutes(doc); return err }); err != nil {
			return nil, fmt.Errorf("routes in %s must be a list of {name, listen, upstream, gpus, labels}; correct %s", path, yamlErrorLine(err))
		}
		delete(f.values, "routes")
	}
	return f, nil
}

// errYAMLPanic replaces a panic of the YAML library, which some malformed texts cause.
var errYAMLPanic = errors.New("the syntax, which the YAML parser cannot read")

// recoverYAML calls f, which uses the YAML library, and turns a panic into an error.
func recoverYAML(f func() error) (err error) {
	defer func() {
		if recover() != nil {
			err = errYAMLPanic
		}
	}()
	return f()
}

// readRoutes decodes routes from the parsed file, so that errors name the line.
func readRoutes(doc *ast.File) (routes []route, err error) {
	at, err := yaml.PathString("$.routes")
	if err != nil {
		return nil, err
	}
	node, err := at.FilterFile(doc)
	if err != nil {
		return nil, err
	}
	err = yaml.NodeToValue(node, &routes, yaml.Strict())
	return routes, err
}

// yamlErrorLine formats an error of the YAML library as one line with its position.
func yamlErrorLine(err error) string {
	var e yaml.Error
	if !errors.As(err, &e) || e.GetToken() == nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		return first
	}
	at := e.GetToken().Position
	return fmt.Sprintf("line %d, column %d: %s", at.Line, at.Column, e.GetMessage())
}

// configPath finds the path of the configuration file in the arguments, because kong needs the file before it parses
// them. named reports whether --config or WATTLINE_CONFIG names it.
func configPath(args []string) (path string, named bool) {
	for i, a := range args {
		switch {
		case a == "--":
			args = nil
		case a == "--config" && i+1 < len(args):
			return args[i+1], true
		case strings.HasPrefix(a, "--config="):
			return strings.TrimPrefix(a, "--config="), true
		}
		if args == nil {
			break
		}
	}
	if p := os.Getenv("WATTLINE_CONFIG"); p != "" {
		return p, true
	}
	for _, dir := range []string{xdg("XDG_CONFIG_HOME", ".config"), "/etc"} {
		if dir == "" {
			continue
		}
		p := filepath.Join(dir, "wattline", "config.yaml")
		if _, err := os.Stat(p); err == nil {
			return p, false
		}
	}
	return "", false
}

// Validate rejects keys that are no flag of any command, so that a misspelt setting is not ignored.
func (f *configFile) Validate(app *kong.Application) error {
	known := map[string]bool{}
	var visit func(n *kong.Node)
	visit = func(n *kong.Node) {
		for _, fl := range n.Flags {
			known[fl.Name] = true
		}
		for _, c := range n.Children {
			visit(c)
		}
	}
	visit(app.Node)
	seen := map[string]bool{}
	for k := range f.values {
		if !known[flagName(k)] || k == "config" {
			return fmt.Errorf("the configuration file %s has the key %q, which is not a flag of wattline", f.path, k)
		}
		if seen[flagName(k)] {
			return fmt.Errorf("the configuration file %s sets %q twice, with - and with _: leave one", f.path, flagName(k))
		}
		seen[flagName(k)] = true
	}
	return nil
}

// Resolve returns the value of a flag in the file, or nil.
func (f *configFile) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	for _, env := range flag.Envs {
		if _, ok := os.LookupEnv(env); ok {
			return nil, nil //nolint:nilnil // the environment wins
		}
	}
	for k, v := range f.values {
		if flagName(k) == flag.Name {
			return flagText(v, flag)
		}
	}
	return nil, nil //nolint:nilnil // kong expects nil for a flag that is not set
}

// flagText formats a YAML value as it would be written on the command line, so that kong parses it by the same rules.
// Otherwise kong would read a YAML number as a duration in nanoseconds.
func flagText(v any, flag *kong.Flag) (any, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil //nolint:nilnil // a key without a value sets nothing
	case []any:
		if !flag.IsSlice() {
			return nil, fmt.Errorf("--%s takes one value, but the configuration file has a list", flag.Name)
		}
		parts := make([]string, len(v))
		for i, e := range v {
			parts[i] = kong.JoinEscaped([]string{fmt.Sprint(e)}, flag.Tag.Sep)
		}
		return strings.Join(parts, string(flag.Tag.Sep)), nil
	case map[string]any:
		if !flag.IsMap() {
			return nil, fmt.Errorf("--%s takes one value, but the configuration file has keys below it", flag.Name)
		}
		parts := make([]string, 0, len(v))
		for k, e := range v {
			parts = append(parts, kong.JoinEscaped([]string{k + "=" + fmt.Sprint(e)}, flag.Tag.MapSep))
		}
		return strings.Join(parts, string(flag.Tag.MapSep)), nil
	case string:
		return v, nil
	default:
		return fmt.Sprint(v), nil
	}
}

// flagName maps the key price_per_kwh to the flag price-per-kwh.
func flagName(key string) string { return strings.ReplaceAll(key, "_", "-") }

// storePath returns the path of the store for every command: the flag, else a file in $STATE_DIRECTORY, else in
// $XDG_STATE_HOME/wattline, else in ~/.local/state/wattline.
func (a *app) storePath(flag string) string {
	if flag != "" {
		return flag
	}
	if d := os.Getenv("STATE_DIRECTORY"); d != "" { // systemd: a colon-separated list
		return filepath.Join(strings.SplitN(d, ":", 2)[0], "wattline.db")
	}
	return filepath.Join(xdg("XDG_STATE_HOME", ".local/state"), "wattline", "wattline.db")
}

// xdg returns a base directory of the XDG specification, by which a relative path is ignored.
func xdg(env, fallback string) string {
	if d := os.Getenv(env); filepath.IsAbs(d) {
		return d
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, fallback)
}

// rejectWithRoutes rejects flags of the command line that routes in the configuration file replace.
func (a *app) rejectWithRoutes(kctx *kong.Context, flags ...string) error {
	for _, p := range kctx.Path {
		if len(a.routes) > 0 && p.Flag != nil && !p.Resolved && slices.Contains(flags, p.Flag.Name) {
			return usageError("--%s and the routes of the configuration file exclude each other: remove one of them", p.Flag.Name)
		}
	}
	return nil
}

// checkRoutes returns the routes that serve runs: those of the file, or the one that the flags describe.
func checkRoutes(routes []route, flags route) ([]route, error) {
	if len(routes) == 0 {
		return []route{flags}, nil
	}
	seen := map[string]string{}
	for i := range routes {
		r := &routes[i]
		if r.Listen == "" || r.Upstream == "" {
			return nil, usageError("route %d of the configuration file needs both listen and upstream", i+1)
		}
		if r.Name == "" {
			r.Name = r.Listen
		}
		for what, v := range map[string]string{"name": r.Name, "listen": r.Listen} {
			if other, ok := seen[what+v]; ok && !strings.HasSuffix(v, ":0") {
				return nil, usageError("routes %s and %s of the configuration file have the same %s %q", other, r.Name, what, v)
			}
			seen[what+v] = r.Name
		}
	}
	return slices.Clone(routes), nil
}
