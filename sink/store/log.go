package store

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"
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

// logReader is a process that reads a snapshot of the store.
type logReader struct {
	pid     int
	program string
}

// logReaders names readers by pid and program.
func logReaders(found []logReader) string {
	var names []string
	for _, r := range found {
		names = append(names, strings.TrimSpace(fmt.Sprint(r.pid, " ", r.program)))
	}
	return cmp.Or(strings.Join(names, ", "), "unknown")
}

// keepLogSmall calls truncateLog, wakes readers that were stopped, and says, at most once an hour, who keeps the log.
func (s *Store) keepLogSmall(ctx context.Context, toldAt *time.Time) {
	kept, err := s.truncateLog(ctx)
	if err != nil && ctx.Err() == nil {
		s.log.Warn("the write-ahead log cannot be folded back", "error", err)
	}
	if kept == 0 {
		return
	}
	found := findReaders(s.path)
	for _, r := range found {
		if r.wake() {
			s.log.Warn("a stopped command kept the store's write-ahead log: it was told to go on, and ends when its time is over", "pid", r.pid)
		}
	}
	if time.Since(*toldAt) < time.Hour {
		return
	}
	*toldAt = time.Now()
	s.log.Warn("the store's write-ahead log grows because a program still reads an old state of it: let it finish, or end it",
		"bytes", kept, "path", s.path+"-wal", "readers", logReaders(found))
}
