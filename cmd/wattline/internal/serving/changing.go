package serving

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"time"

	"wattline/deploy/llama"
	"wattline/replay/tune"
)

// Changing is a llama-server whose flags change, behind a wattline that measures it. Both are started anew with each change;
// wattline's addresses stay.
type Changing struct {
	host          Host
	bin           llama.Binary
	energy        EnergyFlags
	listen, admin string
	dir           string // for the rows

	flags []string
	srv   *llama.Server
	stop  context.CancelFunc
	ended chan error
}

// NewChanging starts nothing yet. Close removes its rows.
func NewChanging(h Host, program string, energy EnergyFlags) (*Changing, error) {
	t := &Changing{host: h, bin: llama.Binary{Path: program}, energy: energy}
	var err error
	for _, at := range []*string{&t.listen, &t.admin} {
		if *at, err = tune.FreeAddress(); err != nil {
			return nil, err
		}
	}
	t.dir, err = os.MkdirTemp("", "wattline-tune-")
	t.host.Routes, t.host.Store = nil, filepath.Join(t.dir, "wattline.db")
	return t, err
}

// URL is where wattline listens once Start has returned.
func (t *Changing) URL() string { return "http://" + t.listen }

// Start makes the server run with these flags, and reports whether it was started for it. One that runs with them already goes on.
func (t *Changing) Start(ctx context.Context, flags []string) (started bool, err error) {
	if t.srv != nil && slices.Equal(flags, t.flags) {
		select {
		case <-t.srv.Done():
		default:
			return false, nil
		}
	}
	t.end()
	srv, err := llama.Start(ctx, t.bin, flags...)
	if err != nil {
		return false, err
	}
	t.srv, t.flags = srv, flags
	h := t.host
	h.Ctx, t.stop = context.WithCancel(context.WithoutCancel(ctx))
	s, err := Open(&h, &Flags{
		Upstream: srv.URL(), Listen: t.listen, Admin: t.admin, Instance: "tune", Identify: "hash", StopTimeout: time.Second, EnergyFlags: t.energy,
	})
	if err != nil {
		t.end()
		return false, err
	}
	t.ended = make(chan error, 1)
	go func() { t.ended <- s.Run() }() // ends with stop; awaited by end
	return true, nil
}

// end stops wattline and the server.
func (t *Changing) end() {
	if t.stop != nil {
		t.stop()
		if t.ended != nil {
			<-t.ended
		}
		t.stop, t.ended = nil, nil
	}
	if t.srv != nil {
		if err := t.srv.Stop(); err != nil {
			t.host.Log.Warn("the server could not be stopped", "error", err)
		}
		t.srv = nil
	}
}

// Close stops both and removes the rows.
func (t *Changing) Close() {
	t.end()
	_ = os.RemoveAll(t.dir)
}
