package gpu

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"wattline/meter"
)

// The files of a recording and their first lines. An empty field is a value that was not obtained.
const (
	counterFile   = "counter.csv"
	samplesFile   = "ring.csv"
	counterHeader = "t_before_ns,t_after_ns,energy_mj,power_avg_mw,power_instant_mw,temp_c,mem_used,sm_clock_mhz,clock_event_reasons"
	samplesHeader = "t_us,power_mw"

	// moreColumns follow in counter.csv of our own: between which two moments the counter took its value
	// (Tick.Lo and Tick.Hi), whether another process computes on the device (1, 0), and 1 where the device
	// was lost. A recording of another recorder lacks them.
	moreColumns = ",t_step_lo_ns,t_step_hi_ns,contended,lost"
)

// RecordedRead is one line of counter.csv: one poll of the device.
type RecordedRead struct {
	Tick
	AverageMw, InstantMw, TempC, MemUsedB, SMClockMHz, Throttle meter.Int

	Contended meter.Int // 1: another process computes on the device, 0: none does
	Lost      bool      // the device was lost, or its counter is not continuous
}

// Recording holds what was recorded of one device. Times are nanoseconds of the recording host's
// CLOCK_REALTIME, ascending; sample times in ring.csv are microseconds.
type Recording struct {
	Reads  []RecordedRead
	Buffer []Sample
}

// ReadRecording reads counter.csv and ring.csv (or the same with .gz) from dir. ring.csv may be
// missing; a device without a sample buffer has none.
func ReadRecording(dir fs.FS) (*Recording, error) {
	rec := &Recording{}
	err := readCSV(dir, counterFile, counterHeader, moreColumns, func(f []meter.Int) error {
		if !f[0].Valid || !f[1].Valid {
			return errors.New("no time")
		}
		l := RecordedRead{
			Tick:      Tick{Before: f[0].V, After: f[1].V, Uj: f[2].V * 1000, OK: f[2].Valid},
			AverageMw: f[3], InstantMw: f[4], TempC: f[5], MemUsedB: f[6], SMClockMHz: f[7], Throttle: f[8],
		}
		if len(f) > 9 {
			l.Lo, l.Hi, l.Contended, l.Lost = f[9].V, f[10].V, f[11], f[12].V == 1
		}
		if n := len(rec.Reads); n > 0 && l.Before < rec.Reads[n-1].Before {
			return errors.New("time runs backwards")
		}
		rec.Reads = append(rec.Reads, l)
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = readCSV(dir, samplesFile, samplesHeader, "", func(f []meter.Int) error {
		if !f[0].Valid || !f[1].Valid {
			return errors.New("empty field")
		}
		s := Sample{At: f[0].V * 1000, Mw: f[1].V}
		if n := len(rec.Buffer); n > 0 && s.At <= rec.Buffer[n-1].At {
			return errors.New("time runs backwards")
		}
		rec.Buffer = append(rec.Buffer, s)
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if len(rec.Reads) == 0 && len(rec.Buffer) == 0 {
		return nil, fmt.Errorf("recording: %s has no lines", counterFile)
	}
	return rec, nil
}

// Span returns the first and the last moment of the recording, in its own clock.
func (r *Recording) Span() (from, to int64) {
	if n := len(r.Reads); n > 0 {
		return r.Reads[0].Before, r.Reads[n-1].After
	}
	return r.Buffer[0].At, r.Buffer[len(r.Buffer)-1].At
}

// readCSV calls line for every data line of name or name.gz in dir, with as many fields as header has, and
// as more has where the file's header goes on with it. Columns after those are a later version's and are
// ignored.
func readCSV(dir fs.FS, name, header, more string, line func([]meter.Int) error) error {
	in, err := openPlainOrGzip(dir, name)
	if err != nil {
		return fmt.Errorf("recording: %w", err)
	}
	defer in.Close() //nolint:errcheck // only read
	sc := bufio.NewScanner(in)
	sc.Split(wholeLines)
	if !sc.Scan() || !strings.HasPrefix(sc.Text(), header) {
		return errors.Join(fmt.Errorf("recording: %s does not begin with %q", name, header), sc.Err())
	}
	if strings.HasPrefix(sc.Text(), header+more) {
		header += more
	}
	fields := make([]meter.Int, strings.Count(header, ",")+1)
	for n := 2; sc.Scan(); n++ {
		if err := parseInts(sc.Text(), fields); err != nil {
			return fmt.Errorf("recording: %s line %d: %w", name, n, err)
		}
		if err := line(fields); err != nil {
			return fmt.Errorf("recording: %s line %d: %w", name, n, err)
		}
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("recording: read %s: %w", name, err)
	}
	return nil
}

// wholeLines splits as bufio.ScanLines does, but for what follows the last newline: a recording that was cut short (the
// disk was full, the recorder was killed) ends in a part of a line, and its last number may be cut.
func wholeLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if atEOF && bytes.IndexByte(data, '\n') < 0 {
		return len(data), nil, nil
	}
	return bufio.ScanLines(data, atEOF)
}

// parseInts fills out with the comma-separated integers of s; an empty field is null.
func parseInts(s string, out []meter.Int) error {
	for i := range out {
		field, rest, more := strings.Cut(s, ",")
		if !more && i < len(out)-1 {
			return fmt.Errorf("%d fields, want %d", i+1, len(out))
		}
		out[i], s = meter.Int{}, rest
		if field == "" {
			continue
		}
		v, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return fmt.Errorf("field %d: %w", i+1, err)
		}
		out[i] = meter.Some(v)
	}
	return nil
}

// openPlainOrGzip opens name in dir, or name.gz unpacked.
func openPlainOrGzip(dir fs.FS, name string) (io.ReadCloser, error) {
	f, err := dir.Open(name)
	if err == nil {
		return f, nil
	}
	z, zerr := dir.Open(name + ".gz")
	if zerr != nil {
		return nil, err
	}
	unpacked, err := gzip.NewReader(z)
	if err != nil {
		return nil, errors.Join(err, z.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{unpacked, z}, nil
}
