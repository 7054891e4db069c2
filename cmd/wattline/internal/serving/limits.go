package serving

import (
	"errors"
	"log/slog"
	"math"
	"time"

	"wattline/proxy"
)

// Check rejects values that the flags' types allow but that cannot be used.
func (c *Flags) Check() error {
	if c.Listen == "" {
		return usageError("--listen is empty: write it as HOST:PORT")
	}
	if c.Admin == "" {
		return usageError("--admin is empty: write it as HOST:PORT, or off")
	}
	for _, l := range []struct {
		flag        string
		value, from int64
	}{
		{"max-header-bytes", int64(c.MaxHeaderBytes), 1024}, {"max-body-bytes", c.MaxBodyBytes, 0},
		{"max-conns", int64(c.MaxConns), 1}, {"max-requests", int64(c.MaxRequests), 1},
	} {
		if l.value < l.from {
			return usageError("--%s is %d, but must be at least %d", l.flag, l.value, l.from)
		}
	}
	for _, l := range []struct {
		flag  string
		value time.Duration
	}{
		{"keep-alive-idle", c.KeepAliveIdle}, {"header-idle", c.HeaderIdle}, {"body-idle", c.BodyIdle},
		{"write-idle", c.WriteIdle}, {"upstream-idle", c.UpstreamIdle},
	} {
		if l.value < time.Millisecond {
			return usageError("--%s is %v, but must be at least 1ms; for a very long wait write 24h", l.flag, l.value)
		}
	}
	for flag, d := range map[string]time.Duration{"stop-timeout": c.StopTimeout, "handover-timeout": c.HandoverTimeout} {
		if d < 0 {
			return usageError("--%s is %v, but must not be negative", flag, d)
		}
	}
	if err := c.checkRetention(); err != nil {
		return err
	}
	return errors.Join(c.checkPrices(), c.checkMonitor())
}

// checkPrices is separate from Check, because SIGHUP reloads prices but no limits.
func (c *Flags) checkPrices() error {
	for flag, v := range map[string]*float64{"price-per-kwh": c.PricePerKWh, "gco2-per-kwh": c.GCO2PerKWh} {
		if v != nil && !(math.Abs(*v) < 1e9) { // also true for NaN
			return usageError("--%s is %v, but must be a number below 1e9", flag, *v)
		}
	}
	return nil
}

// reservedFiles is how many file descriptors are left for everything but connections.
const reservedFiles = 128

// connsPerRoute is --max-conns, or fewer if the limit of open files does not allow two files for each connection. More
// clients are answered 503 instead of waiting for a file descriptor.
func (c *Flags) connsPerRoute(h *Host, routes int) int {
	files, ok := openFilesLimit()
	if !ok {
		return c.MaxConns
	}
	most := max(1, (files-reservedFiles)/2/routes)
	if most >= c.MaxConns {
		return c.MaxConns
	}
	level := slog.LevelInfo
	var defaults proxy.Config
	if defaults.SetDefaults(); c.MaxConns == defaults.MaxConns { // the user did not ask for so many
		level = slog.LevelDebug
	}
	h.Log.Log(h.Ctx, level, "the limit of open files allows fewer connections than --max-conns; raise it with ulimit -n if you need them",
		"open_files", files, "connections", most)
	return most
}
