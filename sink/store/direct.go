package store

import (
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// direct is a connection for the writer's inserts that calls SQLite's C interface as it was translated to
// Go, without database/sql and the driver in between. Those look up each parameter's name, take a mutex,
// and allocate a box and a copy for each value: half of what a row cost, and 75 allocations. For one
// goroutine at a time.
type direct struct {
	tls *libc.TLS
	db  uintptr // sqlite3*
	// text holds the bytes of the row that is being bound. It is memory of the C library's: what SQLite
	// is given an address of must neither move nor be collected.
	text     uintptr
	textSize int

	begin, commit, rollback *statement
	statements              []*statement
}

// statement is a prepared statement of a direct connection.
type statement struct {
	on  *direct
	ptr uintptr // sqlite3_stmt*
}

// liteError is what SQLite said on a direct connection.
type liteError struct {
	code int // extended
	text string
}

func (e *liteError) Error() string { return fmt.Sprintf("%s (%d)", e.text, e.code) }

// Code returns SQLite's result code, as *sqlite.Error does.
func (e *liteError) Code() int { return e.code }

// openDirect opens an existing database for writing and runs the pragmas.
func openDirect(path string, pragmas ...string) (*direct, error) {
	d := &direct{tls: libc.NewTLS()}
	if err := d.prepareAll(path, pragmas); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func (d *direct) prepareAll(path string, pragmas []string) error {
	if err := d.open(path); err != nil {
		return err
	}
	for _, p := range pragmas {
		if err := d.exec("PRAGMA " + p); err != nil {
			return err
		}
	}
	for _, s := range []struct {
		to  **statement
		sql string
	}{{&d.begin, "BEGIN IMMEDIATE"}, {&d.commit, "COMMIT"}, {&d.rollback, "ROLLBACK"}} {
		var err error
		if *s.to, err = d.prepare(s.sql); err != nil {
			return err
		}
	}
	return nil
}

func (d *direct) open(path string) error {
	name, err := libc.CString(path)
	if err != nil {
		return err
	}
	defer libc.Xfree(d.tls, name)
	// No mutex: the store's own lock lets one goroutine in.
	rc := d.pointer(&d.db, func(p uintptr) int32 {
		return sqlite3.Xsqlite3_open_v2(d.tls, name, p, sqlite3.SQLITE_OPEN_READWRITE|sqlite3.SQLITE_OPEN_NOMUTEX|sqlite3.SQLITE_OPEN_EXRESCODE, 0)
	})
	return d.failure(rc)
}

// pointer calls f with the address of a C pointer and copies what f put there.
func (d *direct) pointer(to *uintptr, f func(p uintptr) int32) int32 {
	p := d.tls.Alloc(int(unsafe.Sizeof(*to)))
	defer d.tls.Free(int(unsafe.Sizeof(*to)))
	at := (*uintptr)(address(p))
	*at = 0
	rc := f(p)
	*to = *at
	return rc
}

// address is p as Go's compiler takes it: p is an address in memory that Go does not manage.
func address(p uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&p)) } //nolint:gosec // see above

// failure turns a result code into an error.
func (d *direct) failure(rc int32) error {
	if rc == sqlite3.SQLITE_OK {
		return nil
	}
	if d.db == 0 {
		return &liteError{int(rc), "SQLite has no memory for a connection"}
	}
	return &liteError{int(rc), libc.GoString(sqlite3.Xsqlite3_errmsg(d.tls, d.db))}
}

func (d *direct) prepare(sql string) (*statement, error) {
	text, err := libc.CString(sql)
	if err != nil {
		return nil, err
	}
	defer libc.Xfree(d.tls, text)
	s := &statement{on: d}
	rc := d.pointer(&s.ptr, func(p uintptr) int32 {
		return sqlite3.Xsqlite3_prepare_v3(d.tls, d.db, text, -1, sqlite3.SQLITE_PREPARE_PERSISTENT, p, 0)
	})
	if err := d.failure(rc); err != nil {
		return nil, fmt.Errorf("%w in %s", err, strings.TrimSpace(sql))
	}
	d.statements = append(d.statements, s)
	return s, nil
}

// exec runs a statement once.
func (d *direct) exec(sql string) error {
	text, err := libc.CString(sql)
	if err != nil {
		return err
	}
	defer libc.Xfree(d.tls, text)
	return d.failure(sqlite3.Xsqlite3_exec(d.tls, d.db, text, 0, 0, 0))
}

// run gives a statement its values, one a parameter, runs it to its end, and returns how many rows it
// changed.
func (s *statement) run(v *values) (changed int, err error) {
	if err := s.bind(v); err != nil {
		return 0, err
	}
	rc := sqlite3.Xsqlite3_step(s.on.tls, s.ptr)
	for rc == sqlite3.SQLITE_ROW {
		rc = sqlite3.Xsqlite3_step(s.on.tls, s.ptr)
	}
	if rc == sqlite3.SQLITE_DONE {
		rc = sqlite3.SQLITE_OK
		changed = int(sqlite3.Xsqlite3_changes(s.on.tls, s.on.db))
	}
	err = s.on.failure(rc)
	sqlite3.Xsqlite3_reset(s.on.tls, s.ptr) // repeats the code of step
	return changed, err
}

func (s *statement) bind(v *values) error {
	d := s.on
	d.copyText(v.text)
	for i, x := range v.list {
		var rc int32
		switch x.kind {
		case isNull:
			rc = sqlite3.Xsqlite3_bind_null(d.tls, s.ptr, int32(i+1))
		case isInt:
			rc = sqlite3.Xsqlite3_bind_int64(d.tls, s.ptr, int32(i+1), x.n)
		case isText:
			rc = sqlite3.Xsqlite3_bind_text(d.tls, s.ptr, int32(i+1), d.text+uintptr(x.from), int32(x.n), 0) // 0: it stays where it is until the next bind
		}
		if rc != sqlite3.SQLITE_OK {
			return d.failure(rc)
		}
	}
	return nil
}

// copyText brings a row's bytes to where SQLite can read them.
func (d *direct) copyText(b []byte) {
	if len(b) > d.textSize || d.text == 0 {
		libc.Xfree(d.tls, d.text)
		d.textSize = max(4096, 2*len(b))
		d.text = libc.Xmalloc(d.tls, libc.Tsize_t(d.textSize))
	}
	copy(unsafe.Slice((*byte)(address(d.text)), d.textSize), b) //nolint:gosec // textSize bytes are ours
}

// transact runs f between BEGIN IMMEDIATE and COMMIT, or ROLLBACK when f or the commit fails or panics.
func (d *direct) transact(f func() error) (err error) {
	if _, err := d.begin.run(none()); err != nil {
		return err
	}
	committed := false
	defer func() {
		if !committed {
			// Its own error says nothing new: SQLite may have rolled back already.
			_, _ = d.rollback.run(none())
		}
	}()
	if err := f(); err != nil {
		return err
	}
	_, err = d.commit.run(none())
	committed = err == nil
	return err
}

func none() *values { return new(values) }

// close ends the connection. It may be called twice.
func (d *direct) close() error {
	if d == nil || d.tls == nil {
		return nil
	}
	for _, s := range d.statements {
		sqlite3.Xsqlite3_finalize(d.tls, s.ptr) // repeats the code of the last step
	}
	libc.Xfree(d.tls, d.text)
	err := d.failure(sqlite3.Xsqlite3_close_v2(d.tls, d.db))
	d.tls.Close()
	*d = direct{}
	return err
}
