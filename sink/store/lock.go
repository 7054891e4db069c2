package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"
)

// lock makes this process the store's keeper. It locks a file beside the store, never the store
// itself: closing any descriptor of the database would drop SQLite's own locks. The lock ends with the
// process. The file stays; it holds the keeper's pid, for the error message of a second one.
func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the user names it
	if err != nil {
		return nil, explain("lock", path, err)
	}
	held, err := tryLock(f)
	if err == nil && !held {
		err = writePID(f)
		if err == nil || errors.Is(err, syscall.ENOSPC) { // the lock works without the pid
			return f, nil
		}
	}
	defer func() { _ = f.Close() }() // it was not written
	if !held {
		return nil, explain("lock", path, err)
	}
	pid, _ := io.ReadAll(io.LimitReader(f, 20))
	return nil, &Error{Kind: ErrInUse, Path: path, text: fmt.Sprintf(
		"%s is being written by another wattline (pid %s): stop it, or give this one another --store; readers need neither", path, orUnknown(pid))}
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
	return err
}

func orUnknown(pid []byte) string {
	if pid = bytes.TrimSpace(pid); len(pid) > 0 {
		return string(pid)
	}
	return "unknown"
}
