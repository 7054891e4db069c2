package disktest

import (
	"errors"
	"sync"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// The file system ("VFS") that SQLite uses by default after register: the usual one, but that files of watched folders are
// opened with other methods for writing. See https://sqlite.org/vfs.html.

type (
	openFunc     func(tls *libc.TLS, vfs, path, file uintptr, flags int32, outFlags uintptr) int32
	deleteFunc   func(tls *libc.TLS, vfs, path uintptr, syncDir int32) int32
	closeFunc    func(tls *libc.TLS, file uintptr) int32
	writeFunc    func(tls *libc.TLS, file, data uintptr, n int32, at int64) int32
	truncateFunc func(tls *libc.TLS, file uintptr, size int64) int32
	syncFunc     func(tls *libc.TLS, file uintptr, flags int32) int32
)

// usual are SQLite's own functions. Assigned once by register.
type usual struct {
	open   openFunc
	delete deleteFunc
}

// handle is an open file of a watched folder.
type handle struct {
	disk     *Disk
	name     string
	close    closeFunc
	write    writeFunc
	truncate truncateFunc
}

var (
	handles sync.Map // *handle by the address of its sqlite3_file
	methods sync.Map // address of our method table by that of SQLite's
	own     usual
)

var register = sync.OnceValue(func() error {
	tls := libc.NewTLS()
	vfs := clone[sqlite3.Tsqlite3_vfs](tls, sqlite3.Xsqlite3_vfs_find(tls, 0))
	name, err := libc.CString("disktest")
	if err != nil {
		return err
	}
	vfs.FzName = name
	own = usual{open: function[openFunc](vfs.FxOpen), delete: function[deleteFunc](vfs.FxDelete)}
	vfs.FxOpen, vfs.FxDelete = pointer(open), pointer(deleteFile)
	if sqlite3.Xsqlite3_vfs_register(tls, uintptr(unsafe.Pointer(vfs)), 1) != sqlite3.SQLITE_OK {
		return errors.New("disktest: SQLite takes no file system")
	}
	return nil
})

// clone copies a C structure to memory of C.
func clone[T any](tls *libc.TLS, from uintptr) *T {
	to := libc.Xmalloc(tls, libc.Tsize_t(unsafe.Sizeof(*new(T))))
	p := (*T)(at(to))
	*p = *(*T)(at(from))
	return p
}

// at converts an address of C's memory.
func at(address uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&address)) }

// function returns the Go function behind a C function pointer, as modernc.org/sqlite translates C.
func function[F any](address uintptr) F {
	p := &struct{ address uintptr }{address}
	return *(*F)(unsafe.Pointer(p))
}

// pointer is function's inverse. f must be a top-level function.
func pointer[F any](f F) uintptr { return *(*uintptr)(unsafe.Pointer(&f)) }

func open(tls *libc.TLS, vfs, path, file uintptr, flags int32, outFlags uintptr) int32 {
	rc := own.open(tls, vfs, path, file, flags, outFlags)
	if rc != sqlite3.SQLITE_OK || path == 0 {
		return rc
	}
	d, name := watched(libc.GoString(path))
	if d == nil {
		return rc
	}
	f := (*sqlite3.Tsqlite3_file)(at(file))
	theirs := (*sqlite3.Tsqlite3_io_methods)(at(f.FpMethods))
	handles.Store(file, &handle{d, name, function[closeFunc](theirs.FxClose), function[writeFunc](theirs.FxWrite), function[truncateFunc](theirs.FxTruncate)})
	ours, ok := methods.Load(f.FpMethods)
	if !ok {
		m := clone[sqlite3.Tsqlite3_io_methods](tls, f.FpMethods)
		m.FxClose, m.FxWrite, m.FxTruncate, m.FxSync = pointer(closeFile), pointer(write), pointer(truncate), pointer(syncFile)
		ours, _ = methods.LoadOrStore(f.FpMethods, uintptr(unsafe.Pointer(m)))
	}
	f.FpMethods = ours.(uintptr) //nolint:forcetypeassert // nothing else is stored
	return rc
}

func handleOf(file uintptr) *handle {
	h, _ := handles.Load(file)
	return h.(*handle) //nolint:forcetypeassert // open has stored it
}

func closeFile(tls *libc.TLS, file uintptr) int32 {
	h := handleOf(file)
	handles.Delete(file)
	return h.close(tls, file)
}

func write(tls *libc.TLS, file, data uintptr, n int32, offset int64) int32 {
	h := handleOf(file)
	if !h.disk.proceeds() {
		return sqlite3.SQLITE_IOERR_WRITE
	}
	rc := h.write(tls, file, data, n, offset)
	if rc == sqlite3.SQLITE_OK {
		h.disk.record(h.name, change{offset, append([]byte{}, unsafe.Slice((*byte)(at(data)), n)...)})
	}
	return rc
}

func truncate(tls *libc.TLS, file uintptr, size int64) int32 {
	h := handleOf(file)
	if !h.disk.proceeds() {
		return sqlite3.SQLITE_IOERR_TRUNCATE
	}
	rc := h.truncate(tls, file, size)
	if rc == sqlite3.SQLITE_OK {
		h.disk.record(h.name, change{size, nil})
	}
	return rc
}

// syncFile leaves the real disk alone, which makes tests fast.
func syncFile(_ *libc.TLS, file uintptr, _ int32) int32 {
	h := handleOf(file)
	if !h.disk.proceeds() {
		return sqlite3.SQLITE_IOERR_FSYNC
	}
	h.disk.synced(h.name)
	return sqlite3.SQLITE_OK
}

func deleteFile(tls *libc.TLS, vfs, path uintptr, syncDir int32) int32 {
	d, name := watched(libc.GoString(path))
	if d != nil && !d.proceeds() {
		return sqlite3.SQLITE_IOERR_DELETE
	}
	rc := own.delete(tls, vfs, path, syncDir)
	if d != nil && rc == sqlite3.SQLITE_OK {
		d.deleted(name)
	}
	return rc
}
