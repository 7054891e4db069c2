package main

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"wattline/cmd/wattline/internal/configfile"
	"wattline/gpu/sources"
	"wattline/meter"
	"wattline/proxy"
	"wattline/replay/compare"
	"wattline/replay/prompt"
	"wattline/sink/autopsy"
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
	defaultConsole  = "127.0.0.1:11436"
)

// flagDefaults are the values of ${...} in the tags of flags. Each default is defined once, here or in the package that
// uses it.
func flagDefaults() kong.Vars {
	var limits proxy.Config
	limits.SetDefaults()
	kept := store.Retention{}.WithDefaults()
	return kong.Vars{
		"upstream": defaultUpstream, "listen": defaultListen, "admin": defaultAdmin, "console": defaultConsole, "endpoint": "http://" + defaultListen,
		"store":               "$STATE_DIRECTORY/wattline.db, else $XDG_STATE_HOME/wattline/wattline.db",
		"clickhouse_password": "$WATTLINE_CLICKHOUSE_PASSWORD, else the systemd credential clickhouse-password",
		"session_headers":     strings.Join(meter.DefaultSessionHeaders(), ","),
		"gpu_sources":         strings.Join(sources.Choices(), ","),
		"max_metric_labels":   strconv.Itoa(metrics.MaxLabels),
		"tasks":               prompt.TaskHelp(),
		"query_label":         queries.DefaultLabel,
		"load_timeout":        shortDuration(defaultLoadTimeout),
		"outcomes":            strings.Join(outcomes(), ", "),
		"compare_metrics":     strings.Join(compare.Metrics(), ", "),
		"usage_keys":          strings.Join(queries.UsageKeys(), ","),

		"autopsy_memory": strconv.FormatInt(autopsy.DefaultMemory, 10),

		"max_header_bytes": strconv.Itoa(limits.MaxHeaderBytes), "max_body_bytes": strconv.FormatInt(limits.MaxBodyBytes, 10),
		"max_conns": strconv.Itoa(limits.MaxConns), "max_requests": strconv.Itoa(limits.MaxRequests),
		"keep_alive_idle": shortDuration(limits.KeepAliveIdle), "header_idle": shortDuration(limits.HeaderIdle), "body_idle": shortDuration(limits.BodyIdle),
		"write_idle": shortDuration(limits.WriteIdle), "upstream_idle": shortDuration(limits.UpstreamIdle),

		"keep_requests": shortDuration(kept.Requests), "keep_prompts": shortDuration(kept.Prompts), "keep_samples": shortDuration(kept.Samples), "max_store_bytes": strconv.FormatInt(kept.MaxBytes, 10),
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

// storePath returns the path of the store for every command: the flag, else a file in $STATE_DIRECTORY, else in
// $XDG_STATE_HOME/wattline, else in ~/.local/state/wattline.
func (a *app) storePath(flag string) string {
	if flag != "" {
		return flag
	}
	if d := os.Getenv("STATE_DIRECTORY"); d != "" { // systemd: a colon-separated list
		return filepath.Join(strings.SplitN(d, ":", 2)[0], "wattline.db")
	}
	return filepath.Join(configfile.XDG("XDG_STATE_HOME", ".local/state"), "wattline", "wattline.db")
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
