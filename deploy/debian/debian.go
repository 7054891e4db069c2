// Package debian finds programs that tests run (a browser, load balancers, Prometheus), and fetches missing ones from
// Debian's archive into the cache, without root. Only tests use it.
package debian

import (
	"bytes"
	"context"
	_ "embed" // for fetchScript
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

//go:embed fetch.sh
var fetchScript string

// ErrNotDebian: the program is missing, and this machine has no Debian archive to fetch it from.
var ErrNotDebian = errors.New("debian: missing, and this system has no apt to fetch it with")

const exitNotDebian = 3 // fetch.sh's status

// Find returns the path of a program: the one on PATH, or one fetched before or now.
func Find(ctx context.Context, program string) (string, error) {
	cmd := exec.CommandContext(ctx, "bash", "-c", fetchScript, "fetch.sh", program) //nolint:gosec // our own script
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == exitNotDebian:
		return "", fmt.Errorf("%w: %s", ErrNotDebian, strings.TrimSpace(stderr.String()))
	case err != nil:
		return "", fmt.Errorf("debian: fetch %s: %w: %s", program, err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(out)), nil
}

// Need is Find for a test. The test is skipped where the program cannot be fetched on this system.
func Need(tb testing.TB, program string) string {
	tb.Helper()
	path, err := Find(tb.Context(), program)
	if errors.Is(err, ErrNotDebian) {
		LeaveOut(tb, err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

// LeaveOut skips a test that this machine cannot run. With CI set it fails the test instead.
func LeaveOut(tb testing.TB, why any) {
	tb.Helper()
	if os.Getenv("CI") != "" {
		tb.Fatal(why)
	}
	tb.Skip(why)
}
