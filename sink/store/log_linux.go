package store

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// findReaders finds the other processes that read a snapshot of the store. SQLite's locks are on the -shm file, which must not
// be opened to ask: closing it would drop this process's own locks.
func findReaders(path string) (found []logReader) {
	info, err := os.Stat(path + "-shm") //nolint:gosec // beside the store
	if err != nil {
		return nil
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	f, err := os.Open("/proc/locks")
	if err != nil {
		return nil
	}
	defer f.Close() //nolint:errcheck // only read
	for sc := bufio.NewScanner(f); sc.Scan(); {
		// 1: POSIX  ADVISORY  READ 4242 fd:00:131 124 124
		fields := strings.Fields(sc.Text())
		if len(fields) < 8 || fields[3] != "READ" || !strings.HasSuffix(fields[5], ":"+strconv.FormatUint(st.Ino, 10)) || fields[4] == strconv.Itoa(os.Getpid()) {
			continue
		}
		if first, err := strconv.Atoi(fields[6]); err != nil || first < firstReadLock || first > firstReadLock+4 {
			continue
		}
		pid, err := strconv.Atoi(fields[4])
		if err != nil || slices.ContainsFunc(found, func(r logReader) bool { return r.pid == pid }) {
			continue
		}
		found = append(found, logReader{pid, programOf(pid)})
	}
	return found
}

func programOf(pid int) string {
	name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return strings.TrimSpace(string(name))
}

// wake lets a stopped reader go on: its own deadline then ends it. Only one of this program is woken, and the system lets this
// process wake those of its own user only.
func (r logReader) wake() (woken bool) {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.pid))
	_, state, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(state, "T") && r.program == programOf(os.Getpid()) && syscall.Kill(r.pid, syscall.SIGCONT) == nil
}

// firstReadLock is the byte of the -shm file that a reader locks (SQLite's file format, "WAL-Index Locks"); four more follow.
const firstReadLock = 123
