package store

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// checkpointTimeout is how long truncateLog waits for readers. Write waits meanwhile, and rows in the queue.
const checkpointTimeout = 500 * time.Millisecond

// truncateLog folds the write-ahead log back and truncates it if it has grown above walLimit: with readers that overlap,
// SQLite by itself never finds the moment. It returns the log's size if a reader keeps it, else 0.
func (s *Store) truncateLog(ctx context.Context) (kept int64, err error) {
	if logSize(s.path) <= walLimit {
		return 0, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err = s.conn.ExecContext(ctx, fmt.Sprintf("PRAGMA busy_timeout = %d", checkpointTimeout.Milliseconds())); err != nil {
		return 0, err
	}
	defer func() {
		_, _ = s.conn.ExecContext(context.WithoutCancel(ctx), "PRAGMA busy_timeout = 5000") // as connect sets it
	}()
	var busy, pages, folded int64
	if err = s.conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &folded); err != nil || busy == 0 {
		return 0, err
	}
	return logSize(s.path), nil
}

// logSize is the size of the write-ahead log, 0 without one.
func logSize(path string) int64 {
	info, err := os.Stat(path + "-wal") //nolint:gosec // beside the store
	if err != nil {
		return 0
	}
	return info.Size()
}

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

// keepLogSmall calls truncateLog and says, at most once an hour, who keeps the log.
func (s *Store) keepLogSmall(ctx context.Context, toldAt *time.Time) {
	kept, err := s.truncateLog(ctx)
	if err != nil && ctx.Err() == nil {
		s.log.Warn("the write-ahead log cannot be folded back", "error", err)
	}
	if kept == 0 || time.Since(*toldAt) < time.Hour {
		return
	}
	*toldAt = time.Now()
	s.log.Warn("the store's write-ahead log grows because a program still reads an old state of it: let it finish, or end it",
		"bytes", kept, "path", s.path+"-wal", "readers", logReaders(s.path))
}
