package store

import (
	"errors"
	"path/filepath"
	"testing"

	"wattline/meter"
	"wattline/sink"
)

// TestLazyStoreWaitsForFile: rows written while another Store holds the file are committed when it is
// closed, behind those of the other.
func TestLazyStoreWaitsForFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wattline.db")
	first, err := Open(t.Context(), Config{Path: path, Log: quiet()})
	must(t, err)
	late := OpenLazy(Config{Path: path, Log: quiet()})

	if _, err := late.Open(t.Context()); !errors.Is(err, ErrInUse) {
		t.Errorf("while the file is in use: %v", err)
	}
	if late.Store() != nil {
		t.Error("a LazyStore is open beside the Store that holds the file")
	}

	wrote := make(chan error, 1)
	go func() { wrote <- late.Write(t.Context(), &sink.Rows{Requests: []*meter.Record{request(2)}}) }()
	must(t, first.Write(t.Context(), &sink.Rows{Requests: []*meter.Record{request(1)}}))
	must(t, first.Close())
	must(t, <-wrote)
	<-late.Opened()
	r := tempReader(t, late.Store())
	recs, err := r.Latest(t.Context(), 10)
	must(t, err)
	if len(recs) != 2 {
		t.Errorf("%d rows after the handover, not 2", len(recs))
	}
	must(t, late.Close())
}
