// Package disktest is a disk that loses power, for tests of what SQLite keeps. It records every write and sync of the files in
// a folder and makes copies of the folder: as a killed process leaves it (Copy), or as a power failure does (CopyAfterPowerLoss),
// where each write since the file's last sync is there, not there, or torn.
package disktest

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// sector is the unit that a disk writes whole.
const sector = 512

// Disk watches the SQLite files of one folder.
type Disk struct {
	dir string

	mu     sync.Mutex // guards what follows
	files  map[string]*file
	off    bool
	before func(op int) bool
	ops    int
}

// file is one file: what is on the disk for certain, and what was written since.
type file struct {
	synced []byte
	since  []change
}

// change is a write, or a truncation where data is nil.
type change struct {
	at   int64
	data []byte
}

// New watches a folder whose present files are on the disk. Files must be opened by SQLite afterwards. Close it.
func New(dir string) (*Disk, error) {
	if err := register(); err != nil {
		return nil, err
	}
	d := &Disk{dir: filepath.Clean(dir), files: map[string]*file{}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("disktest: %w", err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("disktest: %w", err)
		}
		d.files[e.Name()] = &file{synced: b}
	}
	disks.Store(d.dir, d)
	return d, nil
}

// Close stops watching.
func (d *Disk) Close() { disks.Delete(d.dir) }

// Before sets a function that is called before each write and sync, with the number of those since this call. If it returns
// true that one and all later ones fail. It may copy the disk.
func (d *Disk) Before(f func(op int) (off bool)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.before, d.ops = f, 0
}

// Off lets all writes and syncs fail from now on.
func (d *Disk) Off() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = true
}

// Copy writes the files into another folder as a killed process leaves them.
func (d *Disk) Copy(to string) error {
	return d.copy(to, func(f *file) []byte { return apply(f.synced, f.since) })
}

// CopyAfterPowerLoss writes the files into another folder as a power failure leaves them.
func (d *Disk) CopyAfterPowerLoss(to string, r *rand.Rand) error {
	return d.copy(to, func(f *file) []byte {
		kept := f.since
		switch r.IntN(4) {
		case 0:
			kept = nil
		case 1: // all
		case 2: // up to one that was torn
			if len(kept) > 0 {
				n := r.IntN(len(kept))
				kept = append(slices.Clone(kept[:n]), kept[n].torn(r))
			}
		default: // each for itself
			kept = nil
			for _, c := range f.since {
				if r.IntN(2) == 0 {
					kept = append(kept, c.torn(r))
				}
			}
		}
		return apply(f.synced, kept)
	})
}

// torn returns the change, or its first sectors.
func (c change) torn(r *rand.Rand) change {
	if n := len(c.data) / sector; n > 0 && r.IntN(2) == 0 {
		c.data = c.data[:sector*r.IntN(n+1)]
		if len(c.data) == 0 {
			c.data = []byte{} // not a truncation
		}
	}
	return c
}

func apply(b []byte, changes []change) []byte { return applyTo(slices.Clone(b), changes) }

func applyTo(b []byte, changes []change) []byte {
	for _, c := range changes {
		if c.data == nil {
			b = append(b, make([]byte, max(0, int(c.at)-len(b)))...)[:c.at]
			continue
		}
		if grow := int(c.at) + len(c.data) - len(b); grow > 0 {
			b = append(b, make([]byte, grow)...)
		}
		copy(b[c.at:], c.data)
	}
	return b
}

func (d *Disk) copy(to string, content func(*file) []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := os.MkdirAll(to, 0o700); err != nil {
		return fmt.Errorf("disktest: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(d.files)) {
		if err := os.WriteFile(filepath.Join(to, name), content(d.files[name]), 0o600); err != nil {
			return fmt.Errorf("disktest: %w", err)
		}
	}
	return nil
}

// proceeds reports whether a write or sync may take place.
func (d *Disk) proceeds() bool {
	d.mu.Lock()
	before, op := d.before, d.ops
	d.ops++
	off := d.off
	d.mu.Unlock()
	if off {
		return false
	}
	if before != nil && before(op) {
		d.Off()
		return false
	}
	return true
}

// record notes a change of a file that has been carried out.
func (d *Disk) record(name string, c change) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[name]
	if f == nil {
		f = new(file)
		d.files[name] = f
	}
	f.since = append(f.since, c)
}

func (d *Disk) synced(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.files[name]; f != nil {
		f.synced, f.since = applyTo(f.synced, f.since), nil // no copy shares its memory
	}
}

func (d *Disk) deleted(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.files, name)
}

// disks has the watched folders, by path.
var disks sync.Map //nolint:gochecknoglobals // SQLite's list of file systems is global too

// watched returns the disk that watches a file, and the file's name on it.
func watched(path string) (*Disk, string) {
	if path == "" || strings.HasSuffix(path, "-shm") {
		return nil, ""
	}
	d, ok := disks.Load(filepath.Dir(path))
	if !ok {
		return nil, ""
	}
	return d.(*Disk), filepath.Base(path) //nolint:forcetypeassert // nothing else is stored
}

// CopyFolder copies the regular files of a folder.
func CopyFolder(to, from string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return fmt.Errorf("disktest: %w", err)
	}
	errs := []error{os.MkdirAll(to, 0o700)}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), "-shm") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(from, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		errs = append(errs, err, os.WriteFile(filepath.Join(to, e.Name()), b, 0o600))
	}
	return errors.Join(errs...)
}
