package gpu

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// SysNumber is an open file of sysfs that holds one integer. It stays open: a read costs one system call
// and allocates nothing, and permission is only needed once.
type SysNumber struct {
	f   *os.File
	buf [32]byte
}

// OpenSysNumber opens the file. The error wraps fs.ErrNotExist or fs.ErrPermission where that is why.
func OpenSysNumber(path string) (*SysNumber, error) {
	f, err := os.Open(path) //nolint:gosec // a file of the system's
	if err != nil {
		return nil, err
	}
	return &SysNumber{f: f}, nil
}

// Read returns the file's present value.
func (n *SysNumber) Read() (int64, error) {
	size, err := n.f.ReadAt(n.buf[:], 0)
	if size == 0 && err != nil {
		return 0, err
	}
	text := bytes.TrimSpace(n.buf[:size])
	v, ok := parseDecimal(text)
	if !ok {
		return 0, fmt.Errorf("%s holds %q, not a number", n.f.Name(), text)
	}
	return v, nil
}

// parseDecimal reads a decimal integer without allocating.
func parseDecimal(text []byte) (v int64, ok bool) {
	negative := len(text) > 0 && text[0] == '-'
	if negative {
		text = text[1:]
	}
	if len(text) == 0 || len(text) > 18 {
		return 0, false
	}
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		v = v*10 + int64(c-'0')
	}
	if negative {
		v = -v
	}
	return v, true
}

// Close closes the file.
func (n *SysNumber) Close() error { return n.f.Close() }

// SysWord returns a file's content without surrounding space, "" where it cannot be read.
func SysWord(path string) string {
	b, err := os.ReadFile(path) //nolint:gosec // a file of the system's
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// SysInt returns the integer in a file that is read once; decimal, or hexadecimal after 0x.
func SysInt(path string) (int64, error) {
	b, err := os.ReadFile(path) //nolint:gosec // likewise
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseInt(strings.TrimSpace(string(b)), 0, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return v, nil
}
