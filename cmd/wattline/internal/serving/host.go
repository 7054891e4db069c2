// Package serving is what `wattline serve` runs: listeners and routes, the rows and where they go, the measurement of
// energy, the admin listener, reloads and upgrades.
package serving

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"wattline/cmd/wattline/internal/configfile"
	"wattline/sink/clickhouse"
	"wattline/sink/console"
)

// Host is the process that a service runs in. Ctx, Stderr, Log, Version and Store are required.
type Host struct {
	Ctx     context.Context // ends with the first SIGINT or SIGTERM
	Stderr  io.Writer       // for people
	Log     *slog.Logger
	Version string
	Store   string             // file of the rows
	Usual   bool               // Store is where commands without --store look
	Routes  []configfile.Route // of the configuration file; none: the one that the flags describe
	Ship    *clickhouse.Target // nil: rows are not shipped
	Runs    console.Runs       // for the page Runs of the console; nil: none

	// Reload reads the settings again, SIGHUP asks for it, and Level is where the level of Log is then put.
	Reload func() (*Flags, slog.Level, error)
	Level  *slog.LevelVar
}

// UsageError is a setting that cannot be used.
type UsageError struct{ error }

// Unwrap returns the reason.
func (e UsageError) Unwrap() error { return e.error }

func usageError(format string, args ...any) error { return UsageError{fmt.Errorf(format, args...)} }
