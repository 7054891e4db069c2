package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"wattline/sink"
)

// Config configures Open. Only Path is required.
type Config struct {
	Path string
	// SetAside moves a damaged file out of the way (PATH.damaged-TIME) and starts a new one instead of
	// failing, so that a broken disk block does not keep the proxy from starting.
	SetAside bool
	// Successor leaves rows that are pending to the process that handed over, which still settles them.
	Successor bool
	Log       *slog.Logger // default slog.Default()
}

// Store writes a store. One process at a time keeps it: it alone ships and deletes rows. One that has handed over (Yield)
// still writes its last rows beside it. Its methods are safe for concurrent use; each waits for the one before.
type Store struct {
	path  string
	log   *slog.Logger
	file  os.FileInfo // of path, when it was opened
	db    *sql.DB
	reads *sql.DB // for reads that must not block Write

	blocks    blockTables
	blockRows int // rows in a block

	packing sync.Mutex // held by Pack; taken before fixing
	fixing  sync.Mutex // held while the rows of a batch are chosen or deleted; taken before mu

	mu       sync.Mutex // guards what follows: one transaction at a time
	lock     *os.File   // nil after Yield
	conn     *sql.Conn
	write    *writer
	seenUpTo [abandonedCalls]int64 // the highest rowid of requests at the last calls of closeAbandoned, the latest first
}

var _ sink.Store = (*Store)(nil)

// walLimit is the size to which the write-ahead log is truncated once no reader uses it.
const walLimit = 16 << 20

// Open opens or creates the store at cfg.Path for writing: folders that are missing get mode 0700, the
// file 0600. It brings an older schema up to date and finishes rows left pending by a crash: they become partial. At most one
// process keeps a store (ErrInUse).
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	s, err := open(ctx, cfg, migrations())
	if !cfg.SetAside || !errors.Is(err, ErrDamaged) || !wasStore(cfg.Path) {
		return s, err
	}
	aside, moveErr := setAside(cfg.Path, time.Now())
	if moveErr != nil {
		return nil, errors.Join(err, moveErr)
	}
	cfg.Log.Error("the store was damaged; it was moved aside and a new one begun", "path", cfg.Path, "moved_to", aside, "error", err)
	return open(ctx, cfg, migrations())
}

func open(ctx context.Context, cfg Config, steps []string) (*Store, error) {
	if err := prepareFile(cfg.Path); err != nil {
		return nil, err
	}
	held, err := lock(cfg.Path)
	if err != nil {
		if version := fileVersion(ctx, cfg.Path); version > len(steps) {
			return nil, newer(cfg.Path, version)
		}
		return nil, err
	}
	return connected(ctx, cfg, held, func(s *Store) error {
		if err := migrate(ctx, s.conn, s.path, steps); err != nil {
			return err
		}
		if err := s.dropOldBlocks(ctx); err != nil || cfg.Successor {
			return err
		}
		return s.closePending(ctx, math.MaxInt64, math.MaxInt64)
	})
}

// openBeside opens a store that another process keeps, to write the last rows of this one. It takes the file as it is: a
// newer wattline may have added columns. Of before version manyWriters it is in use.
func openBeside(ctx context.Context, cfg Config) (*Store, error) {
	if fileVersion(ctx, cfg.Path) < manyWriters {
		return nil, &Error{Kind: ErrInUse, Path: cfg.Path, text: cfg.Path + " is being written by an older wattline"}
	}
	return connected(ctx, cfg, nil, func(*Store) error { return nil })
}

// connected returns a Store whose connections are open; prepare is called on the first.
func connected(ctx context.Context, cfg Config, held *os.File, prepare func(*Store) error) (*Store, error) {
	s := &Store{path: cfg.Path, log: cfg.Log, lock: held, blocks: newBlockTables(), blockRows: defaultBlockRows}
	err := s.connect(ctx, prepare)
	if err == nil {
		s.file, err = os.Stat(cfg.Path)
	}
	if err != nil {
		return nil, errors.Join(explain("open", cfg.Path, err), s.release())
	}
	return s, nil
}

// Yield lets another process keep the store. This one may still Write, and must do nothing else but Close.
func (s *Store) Yield() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock == nil {
		return nil
	}
	err := s.lock.Close()
	s.lock = nil
	s.write.tails.forget()
	return explain("give up", s.path, err)
}

// gone reports whether the file was moved or deleted. SQLite continues to write to a deleted file.
func (s *Store) gone() bool {
	now, err := os.Stat(s.path)
	return errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(s.file, now)
}

// prepareFile creates the file, and folders above it, closed to other users; SQLite gives its -wal and
// -shm files the same mode.
func prepareFile(path string) error {
	if path == "" {
		return errors.New("store: no path given: set --store FILE")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil { //nolint:gosec // the user names it
		return &Error{Kind: ErrReadOnly, Path: path, text: advice(ErrReadOnly, path), cause: err}
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // likewise
	if err != nil {
		return explain("open", path, err)
	}
	return explain("open", path, f.Close())
}

// connect opens the connections and calls prepare on the first.
func (s *Store) connect(ctx context.Context, prepare func(*Store) error) (err error) {
	// auto_vacuum has an effect only before the first table is made; the pragmas run in this order. A commit on this connection
	// is on the disk when it returns, with all before it; one of Write may be lost with the power until then.
	s.db, err = openPool(s.path, readWrite, nil, nil, "busy_timeout(5000)", "auto_vacuum(INCREMENTAL)", "journal_mode(WAL)",
		"synchronous(FULL)", fmt.Sprintf("journal_size_limit(%d)", walLimit), "temp_store(MEMORY)", "cell_size_check(1)")
	if err != nil {
		return err
	}
	if s.conn, err = s.db.Conn(ctx); err != nil {
		return err
	}
	if err = prepare(s); err != nil {
		return err
	}
	if s.reads, err = openPool(s.path, readable, nil, readOnly, "busy_timeout(5000)", "query_only(1)"); err != nil {
		return err
	}
	s.reads.SetMaxOpenConns(2)
	w, err := openWriteConn(ctx, s.path, "busy_timeout(1000)", "synchronous(NORMAL)", fmt.Sprintf("journal_size_limit(%d)", walLimit), "temp_store(MEMORY)", "cache_size(-8000)", "cell_size_check(1)")
	if err != nil {
		return err
	}
	if s.write, err = newWriter(w, s.blocks); err != nil {
		return errors.Join(err, w.close())
	}
	return nil
}

// Path returns the store's file.
func (s *Store) Path() string { return s.path }

// Close ends the writer and checkpoints the write-ahead log. Rows are safe without it.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return explain("close", s.path, s.release())
}

func (s *Store) release() error {
	var errs []error
	if s.reads != nil {
		errs = append(errs, s.reads.Close()) // before the writer, so that its close can checkpoint the log
	}
	if s.write != nil {
		errs = append(errs, s.write.conn.close())
	}
	if s.conn != nil {
		errs = append(errs, s.conn.Close())
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// wasStore reports whether an unreadable file may have been a store: it begins like an SQLite file, or with zeros, as a power
// failure can leave it. Any other file was named by mistake and must not be moved.
func wasStore(path string) bool {
	f, err := os.Open(path) //nolint:gosec // the user names it
	if err != nil {
		return false
	}
	defer f.Close() //nolint:errcheck // only read
	begin := make([]byte, 16)
	if _, err := io.ReadFull(f, begin); err != nil {
		return false
	}
	return string(begin) == "SQLite format 3\x00" || string(begin) == string(make([]byte, 16))
}

// setAside renames the store's files and returns the new name of the main one.
func setAside(path string, now time.Time) (string, error) {
	to := path + ".damaged-" + strings.ReplaceAll(now.UTC().Format("20060102T150405.000"), ".", "")
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Rename(path+suffix, to+suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", explain("move aside", path, err)
		}
	}
	return to, nil
}
