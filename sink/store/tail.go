package store

import (
	"context"
	"math"

	"wattline/meter"
	"wattline/sink"
)

// tail holds the rows of a table behind its last block, as Write adds them: reading 4,096 rows again for a block costs a third of
// writing them. It is known while Write is the only one that adds, moves or deletes such rows; if another did, it is forgotten,
// and Pack reads the rows again.
type tail struct {
	table   *blockTable
	builder *blockBuilder
	known   bool
	after   int64 // the last block's last ship_seq, or more
	last    int64 // of the rows
}

// isKnown reports whether the tail is known.
func (t *tail) isKnown(s *Store) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return t.known
}

// tailOf is a tail of rows of type T.
type tailOf[T any] struct {
	*tail
	fields []func(*T) any // of the block's columns but the first, ship_seq
}

func newTail[T any](blocks blockTables, t table[T]) *tailOf[T] {
	of := blocks[t.name]
	return &tailOf[T]{&tail{table: of, builder: of.newBuilder(of.names)}, t.fields(of.names[1:])}
}

// add appends a row that has just been given its ship_seq. It does nothing if t is nil.
func (t *tailOf[T]) add(row *T, seq int64) {
	if t == nil || !t.known {
		return
	}
	t.builder.put(0, seq, false)
	for i, field := range t.fields {
		if t.builder.putField(i+1, field(row)) != nil {
			t.known = false // the INSERT has failed with the same error
			return
		}
	}
	t.builder.rows++
	t.last = seq
}

// tails are the tails of all tables that have blocks.
type tails struct {
	all      []*tail
	shipSeq  int64 // the counter after the last Write
	requests *tailOf[meter.Record]
	power    *tailOf[sink.Power]
	ledger   *tailOf[sink.Ledger]
}

func newTails(blocks blockTables, t *tables) *tails {
	a := &tails{requests: newTail(blocks, t.requests), power: newTail(blocks, t.power), ledger: newTail(blocks, t.ledger)}
	a.all = []*tail{a.requests.tail, a.power.tail, a.ledger.tail}
	return a
}

// forget is called when rows may have changed otherwise than by adding them to the tails.
func (a *tails) forget() {
	for _, t := range a.all {
		t.known = false
	}
}

// cut makes a block of a tail. Without it queries read the rows, so a failure is only logged.
func (s *Store) cut(t *tail) {
	if err := s.write.writeBlock(t.table, t.builder, t.after, t.last); err != nil {
		s.log.Debug("rows wait for the next packing", "table", t.table.Base, "error", err)
		t.known = false
		return
	}
	t.builder.reset()
	t.after = t.last
}

// readTails reads the rows of the tails that are not known.
func (s *Store) readTails(ctx context.Context) error {
	s.fixing.Lock()
	defer s.fixing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock == nil {
		return nil // another process keeps the store
	}
	w := s.write
	return w.conn.transact(func() error { // other processes add nothing meanwhile
		seq, _, err := w.shipSeq.number(nil)
		if err != nil {
			return err
		}
		if seq != w.tails.shipSeq {
			w.tails.forget()
		}
		w.tails.shipSeq = seq
		for _, t := range w.tails.all {
			if t.known {
				continue
			}
			end, err := w.conn.prepared("SELECT coalesce(max(last_ship_seq), 0) FROM blocks WHERE of_table = ?")
			if err != nil {
				return err
			}
			if t.after, _, err = end.number(w.args.all(t.table.Base)); err != nil {
				return err
			}
			t.builder.reset()
			if t.last, err = w.readRows(ctx, t.table, t.builder, t.after, math.MaxInt64, s.blockRows); err != nil {
				return err
			}
			t.known = t.builder.rows < s.blockRows // else there may be more, for the next Pack
		}
		return nil
	})
}
