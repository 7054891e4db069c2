package store

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// The kinds of Error.
var (
	ErrMissing     = errors.New("no such store")
	ErrInUse       = errors.New("another wattline writes this store")
	ErrDamaged     = errors.New("the store is damaged")
	ErrNewer       = errors.New("the store is of a newer wattline")
	ErrFull        = errors.New("the disk is full")
	ErrReadOnly    = errors.New("the store cannot be written")
	ErrDisk        = errors.New("the disk fails")
	ErrBusy        = errors.New("the store is locked")
	ErrWriteDenied = errors.New("a reader does not write")
	ErrAmbiguous   = errors.New("several rows match")
)

// Error is a failure with a sentence for the operator.
type Error struct {
	Kind  error  // one of the kinds above
	Path  string // the store's file
	text  string
	cause error // may be nil
}

// Error returns the sentence, and the cause in parentheses.
func (e *Error) Error() string {
	if e.cause == nil {
		return "store: " + e.text
	}
	return "store: " + e.text + " (" + e.cause.Error() + ")"
}

// Unwrap gives errors.Is both the kind and the cause.
func (e *Error) Unwrap() []error { return []error{e.Kind, e.cause} }

// Retryable reports whether the same write may succeed later without a change to wattline.
func (e *Error) Retryable() bool {
	return slices.Contains([]error{ErrFull, ErrReadOnly, ErrDisk, ErrBusy}, e.Kind)
}

// Ambiguous reports whether several rows matched.
func (e *Error) Ambiguous() bool { return errors.Is(e.Kind, ErrAmbiguous) }

// explain turns a known error of SQLite or the file system into an *Error with advice. To any other error it adds the
// operation and the path.
func explain(op, path string, err error) error {
	if err == nil {
		return nil
	}
	if _, known := errors.AsType[*Error](err); known {
		return err
	}
	if kind := kindOf(err); kind != nil {
		return &Error{Kind: kind, Path: path, text: advice(kind, path), cause: err}
	}
	return fmt.Errorf("store: %s %s: %w", op, path, err)
}

func kindOf(err error) error {
	if lite, ok := errors.AsType[*sqlite.Error](err); ok {
		switch lite.Code() & 0xff { // the primary code; the rest says where it happened
		case sqlite3.SQLITE_FULL:
			return ErrFull
		case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM:
			return ErrReadOnly
		case sqlite3.SQLITE_IOERR:
			return ErrDisk
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
			return ErrBusy
		case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
			return ErrDamaged
		case sqlite3.SQLITE_AUTH:
			return ErrWriteDenied
		}
		return nil
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return ErrFull
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR):
		return ErrReadOnly
	}
	return nil
}

func advice(kind error, path string) string {
	switch {
	case errors.Is(kind, ErrFull):
		return "the disk that holds " + path + " is full: free space there or point --store at another disk"
	case errors.Is(kind, ErrReadOnly):
		return "cannot write " + path + ": make the file and its folder writable for this user, or point --store elsewhere"
	case errors.Is(kind, ErrDisk):
		return "the disk refused to read or write " + path + ": check the disk's free space, quotas and size limits, and the kernel log"
	case errors.Is(kind, ErrBusy):
		return path + " is locked by another program: close it (a database browser, a backup) and try again"
	case errors.Is(kind, ErrDamaged):
		return path + " is damaged or not a wattline store: move it and its -wal file aside and start again; `sqlite3 " + path + " .recover` may rescue its rows"
	case errors.Is(kind, ErrWriteDenied):
		return "this connection only reads: use SELECT; rows are written by `wattline serve` alone"
	}
	return path
}

// isSyntax reports whether a statement was wrong: bad syntax or an unknown name.
func isSyntax(err error) bool {
	lite, ok := errors.AsType[*sqlite.Error](err)
	return ok && lite.Code() == sqlite3.SQLITE_ERROR
}
