package attribution

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"wattline/meter/energy"
)

// Memory keeps what was learnt about devices and models in a file from one run to the next. It may
// be used by several goroutines.
type Memory struct {
	path string

	mu      sync.Mutex // guards known
	known   []Learnt
	changed bool
}

// Learnt holds the coefficients of one model on one device, and the device's idle draw.
type Learnt struct {
	Device       string              `json:"device"`
	Model        string              `json:"model"`
	Upstream     string              `json:"upstream"` // which served it last
	At           time.Time           `json:"at"`
	Coefficients energy.Coefficients `json:"coefficients"`
	Baseline     energy.Baseline     `json:"baseline"`
}

// mostLearnt bounds the file; the oldest are forgotten.
const mostLearnt = 200

// memoryFile is the file's format.
type memoryFile struct {
	Version int      `json:"version"`
	Learnt  []Learnt `json:"learnt"`
}

const memoryVersion = 1

// OpenMemory reads the file at path. A missing file gives an empty Memory; an unreadable one gives an error as well, and
// is replaced at the next Save.
func OpenMemory(path string) (*Memory, error) {
	m := &Memory{path: path}
	text, err := os.ReadFile(path) //nolint:gosec // beside the store
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return m, fmt.Errorf("attribution: what was learnt before cannot be read: %w", err)
	}
	var f memoryFile
	if err := json.Unmarshal(text, &f); err != nil {
		return m, fmt.Errorf("attribution: what was learnt before cannot be read from %s: %w", path, err)
	}
	if f.Version == memoryVersion { // of another version: learn anew
		m.known = f.Learnt
	}
	return m, nil
}

// All returns everything, by device and model.
func (m *Memory) All() []Learnt {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := slices.Clone(m.known)
	slices.SortFunc(out, func(a, b Learnt) int {
		return cmp.Or(cmp.Compare(a.Device, b.Device), cmp.Compare(a.Model, b.Model))
	})
	return out
}

// Recall returns what is known of a model on a device.
func (m *Memory) Recall(device, model string) (Learnt, bool) {
	return m.latest(func(l *Learnt) bool { return l.Device == device && l.Model == model })
}

// Last returns what is known of the model that an upstream served last on a device.
func (m *Memory) Last(device, upstream string) (Learnt, bool) {
	return m.latest(func(l *Learnt) bool { return l.Device == device && l.Upstream == upstream })
}

func (m *Memory) latest(is func(*Learnt) bool) (found Learnt, ok bool) {
	if m == nil {
		return Learnt{}, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.known {
		if l := &m.known[i]; is(l) && (!ok || l.At.After(found.At)) {
			found, ok = *l, true
		}
	}
	return found, ok
}

// Keep replaces what is known of the same model and device.
func (m *Memory) Keep(l Learnt) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changed = true
	m.known = slices.DeleteFunc(m.known, func(o Learnt) bool { return o.Device == l.Device && o.Model == l.Model })
	m.known = append(m.known, l)
	if n := len(m.known) - mostLearnt; n > 0 {
		slices.SortFunc(m.known, func(a, b Learnt) int { return a.At.Compare(b.At) })
		m.known = m.known[n:]
	}
}

// Save writes the file, if something has changed since.
func (m *Memory) Save() error {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.changed {
		return nil
	}
	text, err := json.MarshalIndent(memoryFile{memoryVersion, m.known}, "", " ")
	if err == nil {
		err = replace(m.path, append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("attribution: what was learnt cannot be kept: %w", err)
	}
	m.changed = false
	return nil
}

// replace writes a file whole or not at all.
func replace(path string, text []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
