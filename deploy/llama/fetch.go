package llama

import (
	"bytes"
	"context"
	_ "embed" // for fetchScript
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

//go:embed fetch.sh
var fetchScript string

// stopGrace is how long a cancelled fetch may take to remove its temporary folder.
const stopGrace = 5 * time.Second

// fetch runs fetch.sh for dir, which checks an installation that is there in milliseconds, and returns the
// program's path. The script's output goes to progress, and its last lines into the error.
func fetch(ctx context.Context, dir string, progress io.Writer) (path, origin string, err error) {
	have, err := filepath.Glob(filepath.Join(dir, "llama-server-*", "llama-server"))
	if err != nil {
		return "", "", fmt.Errorf("llama: look into %s: %w", dir, err)
	}
	origin = OriginFetched
	if len(have) > 0 {
		origin = OriginCache
	}
	cmd := exec.CommandContext(ctx, "bash", "-c", fetchScript, "fetch.sh", dir) //nolint:gosec // our own script
	var out bytes.Buffer
	var messages tail
	cmd.Stdout, cmd.Stderr = &out, &messages
	if progress != nil {
		cmd.Stderr = io.MultiWriter(&messages, progress)
	}
	ownGroup(cmd, false) // apt runs below bash and must end with it
	cmd.Cancel = func() error { return terminateGroup(cmd.Process) }
	cmd.WaitDelay = stopGrace
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return "", "", fmt.Errorf("llama: fetch a llama-server: %w%s", err, indent(lastLines(messages.String(), 8)))
	}
	path = strings.TrimSpace(out.String())
	if _, err := os.Stat(path); err != nil {
		return "", "", fmt.Errorf("llama: fetch a llama-server: %w", err)
	}
	return path, origin, nil
}
