package store

import (
	"bufio"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// logReaders names the other processes that read a snapshot of the store, by pid and program. SQLite's locks are on the -shm
// file, which must not be opened to ask: closing it would drop this process's own locks.
func logReaders(path string) string {
	info, err := os.Stat(path + "-shm") //nolint:gosec // beside the store
	if err != nil {
		return "unknown"
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "unknown"
	}
	f, err := os.Open("/proc/locks")
	if err != nil {
		return "unknown"
	}
	defer f.Close() //nolint:errcheck // only read
	var found []string
	for sc := bufio.NewScanner(f); sc.Scan(); {
		// 1: POSIX  ADVISORY  READ 4242 fd:00:131 124 124
		fields := strings.Fields(sc.Text())
		if len(fields) < 8 || fields[3] != "READ" || !strings.HasSuffix(fields[5], ":"+strconv.FormatUint(st.Ino, 10)) || fields[4] == strconv.Itoa(os.Getpid()) {
			continue
		}
		if first, err := strconv.Atoi(fields[6]); err != nil || first < firstReadLock || first > firstReadLock+4 {
			continue
		}
		name, _ := os.ReadFile("/proc/" + fields[4] + "/comm")
		if reader := strings.TrimSpace(fields[4] + " " + string(name)); !slices.Contains(found, reader) {
			found = append(found, reader)
		}
	}
	if len(found) == 0 {
		return "unknown"
	}
	return strings.Join(found, ", ")
}

// firstReadLock is the byte of the -shm file that a reader locks (SQLite's file format, "WAL-Index Locks"); four more follow.
const firstReadLock = 123
