package setup

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteNew writes a file that is not there yet, readable by its user alone, and says on out what it did.
func WriteNew(out io.Writer, path, text string) (wrote bool, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return false, fmt.Errorf("%s cannot be written: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // below the user's own configuration
	if errors.Is(err, fs.ErrExist) {
		fmt.Fprintf(out, "%s is there already and was left as it is\n", path)
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%s cannot be written: %w", path, err)
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return false, errors.Join(fmt.Errorf("%s was not written: %w", path, err), os.Remove(path))
	}
	fmt.Fprintf(out, "wrote %s\n", path)
	return true, nil
}
