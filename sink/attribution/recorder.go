package attribution

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"wattline/gpu"
	"wattline/meter"
	"wattline/meter/energy"
	"wattline/meter/energy/recording"
	"wattline/sink"
)

// recorder writes what `wattline attribute` reads: per device counter.csv and ring.csv, and one
// requests.jsonl. With several devices each has a folder of its number, which holds all requests.
type recorder struct {
	devices []*gpu.Recorder
	indices []int    // of the devices among the pipeline's
	dirs    []string // of the devices

	cut atomic.Int64 // requests with more outputs than gaps are kept

	mu    sync.Mutex // guards the files
	files []*os.File
	err   error
}

func newRecorder(dir string, indices []int) (*recorder, error) {
	devices := len(indices)
	if devices == 0 {
		return nil, UsageError{fmt.Errorf("--record %s: there is no device whose power could be recorded", dir)}
	}
	r := &recorder{indices: indices}
	for i := range devices {
		at := dir
		if devices > 1 {
			at = filepath.Join(dir, fmt.Sprint(i))
		}
		d, err := gpu.NewRecorder(at)
		if err != nil {
			return nil, errors.Join(err, r.Close())
		}
		r.devices, r.dirs = append(r.devices, d), append(r.dirs, at)
		f, err := os.OpenFile(filepath.Join(at, requestsFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the user names it
		if err != nil {
			return nil, errors.Join(fmt.Errorf("--record %s (choose an empty folder): %w", dir, err), r.Close())
		}
		r.files = append(r.files, f)
	}
	return r, nil
}

// of returns a device's recorder; nil where it is not recorded.
func (r *recorder) of(index int) *gpu.Recorder {
	if r == nil {
		return nil
	}
	if i := slices.Index(r.indices, index); i >= 0 {
		return r.devices[i]
	}
	return nil
}

// opened writes what a device's ledger begins with.
func (r *recorder) opened(index int, in gpu.Info, with opening) {
	device := slices.Index(r.indices, index)
	if device < 0 {
		return
	}
	text, err := json.MarshalIndent(recording.Opening{
		Device: in.UUID, Name: in.Name, Source: in.Source, Driver: in.Driver, Simulated: in.Simulated,
		Config: with.Config, Coefficients: with.Coefficients,
	}, "", " ")
	if err == nil {
		err = os.WriteFile(filepath.Join(r.dirs[device], openingFile), append(text, '\n'), 0o600)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil && err != nil {
		r.err = fmt.Errorf("record: %w", err)
	}
}

// Close ends the recording and returns the first trouble there was.
func (r *recorder) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.err
	for _, d := range r.devices {
		err = errors.Join(err, d.Close())
	}
	for _, f := range r.files {
		err = errors.Join(err, f.Close())
	}
	return err
}

// requestTrace is one live request's stamps, on the samplers' clock.
type requestTrace struct {
	sent, headers, first, last int64
	bytes                      int64 // of the request's body when it was sent: what the ledger guesses its prompt from
	outputs                    int64
	gapsUs                     []int64
	slot                       meter.Int // guarded by the observer's mu until the request's end
	slotAt                     int64
	followed                   bool
	slots                      int   // of the server
	prompt, promptAt           int64 // tokens, where the server reports progress
}

func (t *requestTrace) output(at int64, outputs int) {
	if t.outputs == 0 {
		t.first, t.last = at, at
		t.gapsUs = append(t.gapsUs, 0) // from the role-only event, which comes in the same moment
		outputs--
		t.outputs++
	}
	for range outputs {
		if len(t.gapsUs) < sink.MaxGaps {
			t.gapsUs = append(t.gapsUs, (at-t.last)/1000)
		}
		t.last = at
		t.outputs++
	}
}

// request writes one finished request. A disk that is full ends the recording, not the traffic.
func (r *recorder) request(route int, live *liveRequest, rec *meter.Record, e energy.Event) {
	if r == nil {
		return
	}
	t, end := &live.trace, e.At
	q := recording.Request{
		Tag: rec.ID, ID: rec.ID, Key: e.Request, Upstream: route, Words: t.bytes, Max: rec.MaxTokens.V, Send: t.sent, End: end,
		Followed: t.followed, Slots: t.slots,
		Events: t.outputs, GapsUS: t.gapsUs, Outputs: &t.outputs,
		Cancelled: &e.Counts.Cancelled, Refused: e.Counts.Refused, Several: e.Counts.Several, Streams: &live.work.Streams,
	}
	if tag := rec.Labels["tag"]; tag != "" {
		q.Tag, q.Who = tag, rec.Labels["who"]
	}
	if t.slot.Valid {
		slot := int(t.slot.V)
		if q.Slot = &slot; t.slotAt > 0 {
			q.SlotAt = &t.slotAt
		}
	}
	if t.prompt > 0 {
		q.Prompt, q.PromptAt = t.prompt, t.promptAt
	}
	if t.headers > 0 {
		q.Header = &t.headers
	}
	if t.first > 0 {
		q.Event0, q.Event1, q.Last = &t.first, &t.first, &end
		q.Events += 2 // the role-only one and the last one, which carries the timings
		if t.outputs <= sink.MaxGaps {
			q.GapsUS = append(q.GapsUS, (end-t.last)/1000)
		} else {
			r.cut.Add(1)
		}
	}
	if hasServerCounts(rec) {
		q.Timings = &recording.Timings{
			CacheN: rec.CachedTokens.V, PromptN: rec.PromptTokens.V - rec.CachedTokens.V, PredictedN: rec.OutputTokens.V,
			PromptMS: float64(rec.PrefillUs.V) / 1e3, PredictedMS: float64(rec.DecodeUs.V) / 1e3,
		}
	}
	r.write(live.on, q)
}

// look writes what was seen of a request in the server's slots, where nothing else tells it.
func (r *recorder) look(on *deviceSet, e energy.Event) {
	switch {
	case r == nil || e.Kind == energy.SlotSeen: // which the request's own line has
	case e.Kind == energy.SlotIdle:
		r.write(on, recording.Idle{Key: e.Request, At: e.At})
	default:
		r.write(on, recording.Look{Key: e.Request, At: e.At, Working: e.Kind == energy.Working, Slot: e.Slot, Tokens: e.Tokens})
	}
}

// write appends a line to the requests.jsonl of each of the devices.
func (r *recorder) write(on *deviceSet, v any) {
	line, err := json.Marshal(v)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, index := range on.gpus {
		if i := slices.Index(r.indices, index); i >= 0 && err == nil && r.err == nil {
			_, err = r.files[i].Write(append(line, '\n'))
		}
	}
	if r.err == nil && err != nil {
		r.err = fmt.Errorf("record: the requests are not complete: %w", err)
	}
}
