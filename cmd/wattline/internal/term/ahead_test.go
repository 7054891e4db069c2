package term

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// slowWriter takes each write only when it is told to.
type slowWriter struct {
	bytes.Buffer
	take chan struct{}
}

func (w *slowWriter) Write(p []byte) (int, error) {
	<-w.take
	return w.Buffer.Write(p)
}

// TestAhead: output of 64 MiB waits for a slow reader without keeping the writer; above that the writer waits 5 s for it, and
// then ends. What was taken is whole and in order; a write that fails ends it too.
func TestAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &slowWriter{take: make(chan struct{})}
		a := newAhead(w)
		began := time.Now()
		piece := bytes.Repeat([]byte("x"), aheadBytes/4)
		for i := range 4 {
			piece[0] = byte('0' + i)
			if _, err := a.Write(piece); err != nil || time.Since(began) > 0 {
				t.Fatalf("piece %d: %v after %v", i, err, time.Since(began))
			}
		}
		go func() {
			time.Sleep(aheadTime - time.Second)
			w.take <- struct{}{}
		}()
		if _, err := a.Write([]byte("yy")); err != nil || time.Since(began) != aheadTime-time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if _, err := a.Write(piece); !errors.Is(err, errNobodyReads) || time.Since(began) != 2*aheadTime-time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if err := a.close(); !errors.Is(err, errNobodyReads) {
			t.Error(err)
		}
		close(w.take)
		synctest.Wait()
		if w.Len() > 2*len(piece) || w.Bytes()[0] != '0' {
			t.Errorf("%d bytes were written", w.Len())
		}
	})
	synctest.Test(t, func(t *testing.T) {
		var all bytes.Buffer
		a := newAhead(&all)
		var want bytes.Buffer
		for i := range 1000 {
			p := bytes.Repeat([]byte{byte(i)}, i)
			want.Write(p)
			if _, err := a.Write(p); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.close(); err != nil || !bytes.Equal(all.Bytes(), want.Bytes()) {
			t.Errorf("%d of %d bytes, %v", all.Len(), want.Len(), err)
		}
		r, failing := io.Pipe()
		_ = r.CloseWithError(io.ErrShortWrite)
		a = newAhead(failing)
		_, _ = a.Write([]byte("lost"))
		if err := a.close(); !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("a writer that fails: %v", err)
		}
	})
}
