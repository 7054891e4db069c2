package columnar

import (
	"cmp"
	"errors"
	"fmt"
	"runtime/debug"
)

// scan reads the blocks and calls f with each in a goroutine of its own, so that the next block is read meanwhile. The
// goroutine has ended when scan returns or panics.
func (r *run) scan(s *scan, f func(*Block) error) (err error) {
	blocks, failed := make(chan *Block), make(chan error, 1)
	go func() {
		var err error
		defer close(failed)
		defer func() {
			if err = cmp.Or(asError(recover()), err); err != nil {
				failed <- err
			}
		}()
		for b := range blocks {
			if err = f(b); err != nil {
				return
			}
		}
	}()
	defer func() {
		close(blocks)
		err = cmp.Or(err, <-failed)
	}()
	return r.src.Scan(r.ctx, s.table, s.names, s.from, s.to, s.reverse, func(b *Block) error {
		select {
		case blocks <- b:
			return nil
		case err := <-failed:
			return err
		}
	})
}

// asError is what a panic means: a statement that is not supported, or a fault.
func asError(recovered any) error {
	if recovered == nil {
		return nil
	}
	if err, ok := recovered.(error); ok && errors.Is(err, ErrUnsupported) {
		return err
	}
	return fmt.Errorf("%w: %v\n%s", ErrFault, recovered, debug.Stack())
}
