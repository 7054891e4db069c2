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

// fetch runs fetch.sh for dir and returns the program's path; fetched is false if it was there already.
// What the script says goes to progress as it is said, and its last words into the error.
func fetch(ctx context.Context, dir string, progress io.Writer, offline bool) (path string, fetched bool, err error) {
	have, err := filepath.Glob(filepath.Join(dir, "llama-server-*", "llama-server"))
	if err != nil {
		return "", false, fmt.Errorf("llama: look into %s: %w", dir, err)
	}
	if offline && len(have) == 0 {
		return "", false, fmt.Errorf("llama: %w: none is in %s and fetching was forbidden", ErrNotInstalled, dir)
	}
	cmd := exec.CommandContext(ctx, "bash", "-c", fetchScript, "fetch.sh", dir) //nolint:gosec // our own script
	var out bytes.Buffer
	said := newTail(nil)
	cmd.Stdout = &out
	cmd.Stderr = said
	if progress != nil {
		cmd.Stderr = io.MultiWriter(said, progress)
	}
	ownGroup(cmd) // apt runs below bash and must end with it
	cmd.Cancel = func() error { return terminateGroup(cmd.Process) }
	cmd.WaitDelay = stopGrace
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return "", false, fmt.Errorf("llama: fetch a llama-server: %w%s", err, indent(lastLines(said.String(), 8)))
	}
	path = strings.TrimSpace(out.String())
	if _, err := os.Stat(path); err != nil {
		return "", false, fmt.Errorf("llama: fetch a llama-server: %w", err)
	}
	return path, len(have) == 0, nil
}
