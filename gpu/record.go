package gpu

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"wattline/meter"
)

// Recorder writes what is read of one device as counter.csv and ring.csv, which ReadRecording reads. A
// value that was not asked for at a moment is an empty field. A disk that fills up ends the recording,
// not the sampling: Close returns the error.
type Recorder struct {
	// mu guards everything: Add runs on the device's goroutine, Close on another.
	mu      sync.Mutex
	counter *bufio.Writer
	samples *bufio.Writer
	files   []io.Closer
	line    []byte
	err     error
	flushed int64
}

// NewRecorder makes dir and begins a recording in it; one that is there already is not overwritten.
func NewRecorder(dir string) (*Recorder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("recording: %w", err)
	}
	rec := &Recorder{}
	begin := func(name, header string) (*bufio.Writer, error) {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the user names it
		if err != nil {
			return nil, err
		}
		rec.files = append(rec.files, f)
		w := bufio.NewWriterSize(f, 32<<10)
		_, err = w.WriteString(header + "\n")
		return w, err
	}
	var errC, errR error
	if rec.counter, errC = begin(counterFile, counterHeader+moreColumns); errC == nil {
		rec.samples, errR = begin(samplesFile, samplesHeader)
	}
	if err := errors.Join(errC, errR); err != nil {
		for _, f := range rec.files {
			err = errors.Join(err, f.Close())
		}
		return nil, fmt.Errorf("recording: begin in %s (choose an empty folder): %w", dir, err)
	}
	return rec, nil
}

// Lost writes that the device was lost at a moment, or that its counter does not go on from what it said.
func (rec *Recorder) Lost(at int64) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if rec.err == nil && rec.counter != nil {
		rec.writeRead(&Reading{After: at}, meter.Int{}, meter.Some(1))
	}
}

// Add writes one reading, and whether another process computes on the device where that was asked.
func (rec *Recorder) Add(r *Reading, contended meter.Int) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if rec.err != nil || rec.counter == nil {
		return
	}
	if r.Energy.OK || r.InstantMw.Valid || r.AverageMw.Valid || r.Status.TempC.Valid || contended.Valid {
		rec.writeRead(r, contended, meter.Int{})
	}
	for _, s := range r.Buffer {
		rec.line = strconv.AppendInt(rec.line[:0], s.At/1000, 10)
		rec.line = append(rec.line, ',')
		rec.line = strconv.AppendInt(rec.line, s.Mw, 10)
		rec.write(rec.samples)
	}
	if r.After-rec.flushed > secondNs {
		rec.flushed = r.After
		rec.err = errors.Join(rec.err, rec.counter.Flush(), rec.samples.Flush())
	}
}

// writeRead writes a line of counter.csv.
func (rec *Recorder) writeRead(r *Reading, contended, lost meter.Int) {
	e := r.Energy
	if !e.OK {
		e.Before, e.After = r.stamp(), r.stamp()
	}
	s := &r.Status
	rec.line = rec.line[:0]
	fields := [...]meter.Int{
		meter.Some(e.Before), meter.Some(e.After), {V: e.Uj / 1000, Valid: e.OK}, r.AverageMw, r.InstantMw,
		s.TempC, s.MemUsedB, s.SMClockMHz, s.Throttle,
		{V: e.Lo, Valid: e.OK && e.Lo > 0}, {V: e.Hi, Valid: e.OK && e.Hi > 0}, contended, lost,
	}
	for i, v := range fields {
		if i > 0 {
			rec.line = append(rec.line, ',')
		}
		if v.Valid {
			rec.line = strconv.AppendInt(rec.line, v.V, 10)
		}
	}
	rec.write(rec.counter)
}

func (rec *Recorder) write(w *bufio.Writer) {
	rec.line = append(rec.line, '\n')
	if _, err := w.Write(rec.line); err != nil && rec.err == nil {
		rec.err = err
	}
}

// Close ends the recording and returns the first error that writing it met.
func (rec *Recorder) Close() error {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if rec.counter == nil {
		return nil
	}
	err := errors.Join(rec.err, rec.counter.Flush(), rec.samples.Flush())
	for _, f := range rec.files {
		err = errors.Join(err, f.Close())
	}
	rec.counter, rec.samples = nil, nil
	if err != nil {
		return fmt.Errorf("recording: %w", err)
	}
	return nil
}
