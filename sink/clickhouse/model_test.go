package clickhouse

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// model is ClickHouse as its documentation and source describe it, with everything that can happen to an INSERT. On one
// server the deduplication log is written before the part (MergeTreeSink::finishDelayedChunk), so a crash in between loses
// the part; replicated tables commit both in one transaction of Keeper, and a replica sees the part later.
type model struct {
	replicated bool
	faulty     bool       // faults happen
	r          *rand.Rand // of the present action
	interrupt  func()     // called before and during each statement
	tables     map[string]*modelTable
	late       []lateInsert
	met        map[string]int // how often each fault happened
}

type modelTable struct {
	rows   []modelRow
	tokens map[string]time.Time // of each token and partition: when it was recorded
}

type modelRow struct {
	id, batch   string
	at, visible time.Time
}

type lateInsert struct {
	when         time.Time
	table, token string
	parts        []modelPart
}

// Bounds of what ClickHouse does late: together less than settleTime, which is what wattline relies on.
const (
	modelLate = 60 * time.Second // an INSERT whose client has gone
	modelLag  = 55 * time.Second // a replica, or a part that becomes visible
)

var errModel = errors.New("no answer")

func newModel(replicated bool) *model {
	m := &model{replicated: replicated, tables: map[string]*modelTable{}, met: map[string]int{}}
	for _, t := range current().tables {
		m.tables[t.name] = &modelTable{tokens: map[string]time.Time{}}
	}
	return m
}

func (m *model) Target() *Target { return &Target{database: "model"} }

func (m *model) ensure(ctx context.Context, _ schema) (bool, []string, error) {
	m.interrupt()
	return false, nil, ctx.Err()
}

func (m *model) inspect(ctx context.Context) (map[string]*foundTable, error) {
	m.interrupt()
	engine := "MergeTree"
	if m.replicated {
		engine = "Distributed"
	}
	found := map[string]*foundTable{}
	for name := range m.tables {
		found[name] = &foundTable{engine: engine}
	}
	if m.meets("DDL in flight", 20) {
		delete(found, "requests")
	}
	return found, ctx.Err()
}

// meets reports whether a fault happens that does so once in n times.
func (m *model) meets(fault string, n int) bool {
	if !m.faulty || m.r.IntN(n) > 0 {
		return false
	}
	m.met[fault]++
	return true
}

// work carries out the late INSERTs that are due.
func (m *model) work() {
	m.late = slices.DeleteFunc(m.late, func(l lateInsert) bool {
		due := !l.when.After(time.Now())
		if due {
			m.apply(l.when, l.table, l.token, l.parts)
		}
		return due
	})
}

func (m *model) arrived(ctx context.Context, t *table, r *batchRows) (a arrival, err error) {
	m.interrupt()
	m.work()
	if ctx.Err() != nil || m.meets("look without an answer", 15) {
		return a, errModel
	}
	from, to := r.span(t.time)
	own, all := map[string]bool{}, map[string]int{}
	for _, row := range m.tables[t.name].rows {
		if row.visible.After(time.Now()) || !t.repeats && (row.at.Before(from) || row.at.After(to)) {
			continue
		}
		all[row.id]++
		own[row.id] = own[row.id] || row.batch == r.batch.Token
	}
	for _, id := range r.batch.IDs {
		switch {
		case all[id] == 0:
			a.missing = append(a.missing, id)
		case own[id]:
			a.own++
		default:
			a.others++
		}
		a.doubled += uint64(max(0, all[id]-1))
	}
	return a, nil
}

func (m *model) insert(ctx context.Context, t *table, _ *foundTable, r *batchRows) error {
	m.interrupt()
	m.work()
	if ctx.Err() != nil || m.meets("refused: read-only, or no connection", 10) {
		return errModel
	}
	parts, now := m.parts(t, r), time.Now()
	defer m.interrupt() // the process may die although the INSERT has been executed
	switch {
	case m.meets("carried out later, without an answer", 12):
		m.late = append(m.late, lateInsert{now.Add(time.Duration(m.r.Int64N(int64(modelLate)))), t.name, r.token(), parts})
		return errModel
	case m.meets("restart after some parts", 12):
		m.apply(now, t.name, r.token(), parts[:m.r.IntN(len(parts)+1)])
		return errModel
	case !m.replicated && m.meets("restart between log and part", 12):
		n := m.r.IntN(len(parts))
		m.apply(now, t.name, r.token(), parts[:n])
		m.tables[t.name].tokens[r.token()+parts[n].month] = now
		return errModel
	}
	m.apply(now, t.name, r.token(), parts)
	if m.meets("applied without an answer", 8) {
		return errModel
	}
	return ctx.Err()
}

type modelPart struct {
	month string
	rows  []modelRow
}

// parts divides the rows by partition.
func (m *model) parts(t *table, r *batchRows) []modelPart {
	byMonth := map[string]*modelPart{}
	for i, id := range r.batch.IDs {
		at := *r.field[t.time](i).(*time.Time) //nolint:forcetypeassert // a column of times
		month := at.Format("200601")
		if t.name == "configs" {
			month = "" // not partitioned
		}
		if byMonth[month] == nil {
			byMonth[month] = &modelPart{month: month}
		}
		byMonth[month].rows = append(byMonth[month].rows, modelRow{id: id, batch: r.batch.Token, at: at})
	}
	var out []modelPart
	for _, month := range slices.Sorted(maps.Keys(byMonth)) {
		out = append(out, *byMonth[month])
	}
	return out
}

// apply commits parts one by one, those whose token is not remembered.
func (m *model) apply(now time.Time, table, token string, parts []modelPart) {
	t := m.tables[table]
	for _, p := range parts {
		if _, known := t.tokens[token+p.month]; known {
			m.met["recognised token"]++
			continue
		}
		t.tokens[token+p.month] = now
		visible := now
		if m.meets("part visible late", 4) {
			visible = visible.Add(time.Duration(m.r.Int64N(int64(modelLag))))
		}
		for _, row := range p.rows {
			row.visible = visible
			t.rows = append(t.rows, row)
		}
	}
}

// forget is what the INSERTs of other hosts do to the deduplication log. They cannot be so many that a token of the last two
// minutes goes.
func (m *model) forget() {
	m.work()
	for _, t := range m.tables {
		maps.DeleteFunc(t.tokens, func(_ string, at time.Time) bool { return time.Since(at) > settleTime })
	}
}

// counts returns how often each row of a table is there.
func (m *model) counts(table string) map[string]int {
	out := map[string]int{}
	for _, row := range m.tables[table].rows {
		out[row.id]++
	}
	return out
}
