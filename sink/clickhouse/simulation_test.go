package clickhouse

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wattline/meter"
	"wattline/sink"
	"wattline/sink/store"
	"wattline/sink/store/disktest"
)

// action is one step of a history. Its seed decides everything inside it, so that a history without some of its actions
// replays the others as they were.
type action struct {
	kind string
	seed uint64
}

// kinds of actions, more often where they are listed more often.
var actionKinds = strings.Fields("offer offer offer settle flush flush ship ship ship ship wait wait kill power backup restore checkpoint forget evict") //nolint:gochecknoglobals // a constant list

// history returns the actions of a seed: one in eight is long, since several short ones find more than a long one.
func history(seed uint64, length int) (actions []action) {
	r := rand.New(rand.NewPCG(seed, 19))
	if seed%8 > 0 {
		length = max(1, length/4)
	}
	for range 3 + r.IntN(length) {
		actions = append(actions, action{actionKinds[r.IntN(len(actionKinds))], r.Uint64()})
	}
	return actions
}

// simulation is wattline's rows on their way: real queue, real store on a disk that loses power, real shipper, and a model of
// ClickHouse. Processes die at any write, sync or statement.
type simulation struct {
	root  string
	lives int
	model *model
	r     *rand.Rand // of the present action

	disk    *disktest.Disk
	store   *store.Store
	queue   *sink.Queue
	shipper *Shipper
	ctx     context.Context // of this life; ends when the process dies
	die     context.CancelFunc
	image   string // where the files are that a death leaves behind; "" while alive

	sending *store.Batch

	rows    int
	pending []*meter.Record
	// Rows by table and id: offered so far; in the store for certain after a kill; also after a power loss; confirmed by the
	// shipper; possibly lost, for a stated reason.
	offered, written, durable, confirmed, excused map[string]bool
	dropped                                       uint64 // by the queue, which counts them
	backups                                       []backup
	problem                                       error
}

type backup struct {
	dir     string
	written map[string]bool
}

// simulate runs a history and returns what is wrong with its end.
func simulate(t *testing.T, template string, actions []action, replicated bool, met map[string]int) (err error) {
	root, err := os.MkdirTemp(filepath.Dir(template), "history")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(root) }()
	synctest.Test(t, func(*testing.T) {
		s := &simulation{root: root, model: newModel(replicated), image: template,
			offered: map[string]bool{}, written: map[string]bool{}, durable: map[string]bool{}, confirmed: map[string]bool{}, excused: map[string]bool{}}
		s.model.interrupt = s.interrupt
		s.seed(1)
		s.begin()
		s.model.faulty = true
		for _, a := range actions {
			s.seed(a.seed)
			s.do(a.kind)
			if s.image != "" {
				s.begin()
			}
			if s.problem != nil {
				break
			}
		}
		s.finish()
		err = s.problem
		maps.Copy(met, s.model.met)
	})
	return err
}

func (s *simulation) seed(seed uint64) {
	s.r = rand.New(rand.NewPCG(seed, 7))
	s.model.r = s.r
}

func (s *simulation) fail(format string, args ...any) {
	if s.problem == nil {
		s.problem = fmt.Errorf(format, args...)
	}
}

func (s *simulation) check(err error) {
	if err != nil {
		s.fail("%w", err)
	}
}

// newDir returns the path of a folder that does not exist yet.
func (s *simulation) newDir() string {
	s.lives++
	return filepath.Join(s.root, strconv.Itoa(s.lives))
}

// begin starts a process on the files of s.image.
func (s *simulation) begin() {
	dir := s.newDir()
	s.check(disktest.CopyFolder(dir, s.image))
	s.image = ""
	var err error
	if s.disk, err = disktest.New(dir); err != nil {
		s.fail("%w", err)
		return
	}
	quiet := slog.New(slog.DiscardHandler)
	if s.store, err = store.Open(context.Background(), store.Config{Path: filepath.Join(dir, "wattline.db"), Log: quiet}); err != nil {
		s.fail("the store does not open again: %w", err)
		return
	}
	there := s.stored()
	for row := range s.written {
		if !there[row] {
			s.fail("row %q was in the store and is gone", row)
		}
	}
	s.pending = nil
	s.ctx, s.die = context.WithCancel(context.Background())
	s.queue = sink.New(sink.Config{Store: s.store, Capacity: 30, Log: quiet})
	s.shipper = NewShipper(Config{Outbox: simulatedBox{s.store, s}, Instance: "host", MaxRows: 1 + s.r.IntN(12), Log: quiet})
	s.shipper.deliverTo(s.model, current())
	config := &sink.ServerConfig{ConfigID: "c" + strconv.Itoa(s.r.IntN(2)), At: time.Now().UTC(), Instance: "host"}
	s.offered["configs "+config.ConfigID] = true
	s.queue.OfferConfig(config)
	synctest.Wait()
}

// end ends the process, which was killed or lost power before.
func (s *simulation) end() {
	if s.store == nil {
		return
	}
	s.disk.Off()
	s.die()
	_ = s.queue.Stop(s.ctx)
	s.dropped += s.queue.Stats().Requests.Dropped + s.queue.Stats().Samples.Dropped
	_ = s.store.Close()
	s.disk.Close()
	s.store = nil
}

// crash takes what a death of the process at this moment leaves.
func (s *simulation) crash(power bool) {
	if s.image != "" {
		return
	}
	s.image = s.newDir()
	left := s.written
	if power {
		s.check(s.disk.CopyAfterPowerLoss(s.image, s.r))
		left = s.durable
	} else {
		s.check(s.disk.Copy(s.image))
	}
	s.excuse(left)
	s.written, s.durable = maps.Clone(left), maps.Clone(left)
	s.die()
}

// excuse says of all rows but those left that they may be lost from now on, if they have not been shipped.
func (s *simulation) excuse(left map[string]bool) {
	for row := range s.offered {
		if !left[row] {
			s.excused[row] = true
		}
	}
}

// interrupt is called at every statement to ClickHouse: meanwhile time passes, rows come, or the process dies.
func (s *simulation) interrupt() {
	if !s.model.faulty || s.image != "" {
		return
	}
	switch s.r.IntN(40) {
	case 0:
		s.crash(s.r.IntN(2) == 0)
		s.disk.Off()
	case 1, 2:
		s.offer()
		s.flush()
	case 3, 4:
		time.Sleep(time.Duration(s.r.Int64N(int64(90 * time.Second))))
	}
}

func (s *simulation) do(kind string) {
	power, at := s.r.IntN(2) == 0, -1
	if s.r.IntN(8) == 0 { // death at a write or sync of this action
		at = s.r.IntN(30)
	}
	s.disk.Before(func(op int) bool {
		if op == at {
			s.crash(power)
		}
		return op >= at && at >= 0
	})
	switch kind {
	case "offer":
		s.offer()
	case "settle":
		s.settle()
	case "flush":
		s.flush()
	case "ship":
		_ = s.shipper.Flush(s.ctx)
	case "wait":
		time.Sleep(time.Duration(s.r.Int64N(int64(5 * time.Minute))))
	case "kill", "power":
		s.crash(kind == "power")
	case "backup":
		dir := s.newDir()
		s.check(s.disk.Copy(dir))
		s.backups = append(s.backups, backup{dir, maps.Clone(s.written)})
	case "restore":
		s.restore()
	case "checkpoint":
		s.checkpoint()
	case "forget":
		s.model.forget()
	case "evict":
		s.evict()
	}
	if s.image != "" {
		s.end()
	}
}

// offer hands some rows to the queue. Some have a start of last month, so that batches have two partitions.
func (s *simulation) offer() {
	for range 1 + s.r.IntN(6) {
		if s.image != "" {
			return // the process has just died
		}
		s.rows++
		at := time.Now().UTC().Truncate(time.Microsecond)
		if s.r.IntN(4) == 0 {
			p := &sink.Power{At: at.Add(time.Duration(s.rows) * time.Second), Instance: "host", Device: "GPU-0"}
			s.offered["power host|GPU-0|"+p.At.Format(store.TimeLayout)] = true
			s.queue.OfferPower(p)
			synctest.Wait()
			continue
		}
		if s.r.IntN(3) == 0 {
			at = at.AddDate(0, -1, 0)
		}
		rec := &meter.Record{ID: fmt.Sprintf("r%04d", s.rows), StartedAt: at, Instance: "host", Outcome: meter.OK, EnergyQuality: meter.EnergyUnavailable}
		if s.r.IntN(3) == 0 {
			rec.EnergyQuality = meter.EnergyPending
			s.pending = append(s.pending, rec)
		}
		s.offered["requests "+rec.ID] = true
		s.queue.Offer(rec)
		synctest.Wait() // one goroutine at a time, so that a seed gives one history
	}
}

func (s *simulation) settle() {
	for _, rec := range s.pending {
		final := *rec
		final.EnergyQuality, final.GPUUj = meter.EnergyShared, meter.Some(7)
		s.queue.Settle(&final)
		synctest.Wait()
	}
	s.pending = nil
}

// flush waits for the queue's rows to be written.
func (s *simulation) flush() {
	offered, dropped := maps.Clone(s.offered), s.queue.Stats().Requests.Dropped+s.queue.Stats().Samples.Dropped
	if s.queue.Flush(s.ctx) != nil || s.image != "" || dropped > 0 {
		return
	}
	for row := range offered {
		if !s.excused[row] {
			s.written[row] = true
		}
	}
}

// restore ends the process and puts back a backup, one that was used before or not. It takes as long as an INSERT can be under
// way: deploy/README.md asks operators to wait as long.
func (s *simulation) restore() {
	if len(s.backups) == 0 {
		return
	}
	b := s.backups[s.r.IntN(len(s.backups))]
	s.excuse(b.written)
	s.written, s.durable = maps.Clone(b.written), maps.Clone(b.written)
	s.image = b.dir
	s.end()
	time.Sleep(settleTime)
}

// checkpoint moves the write-ahead log into the database, which else happens every thousand pages.
func (s *simulation) checkpoint() {
	db, err := sql.Open("sqlite", s.store.Path())
	s.check(err)
	_, _ = db.ExecContext(s.ctx, "PRAGMA wal_checkpoint(RESTART)") // fails with the disk
	_ = db.Close()
}

// evict is a full store: all rows go, those that wait are counted as lost.
func (s *simulation) evict() {
	if s.r.IntN(4) > 0 {
		return
	}
	_, err := s.store.EnforceRetention(s.ctx, time.Now(), store.Retention{Shipping: true, MaxBytes: 1})
	if err != nil && s.image == "" {
		s.fail("%w", err)
	}
	s.excuse(nil)
	s.written, s.durable = map[string]bool{}, map[string]bool{}
}

// stored returns the rows that are in the store.
func (s *simulation) stored() map[string]bool {
	out := map[string]bool{}
	db, err := sql.Open("sqlite", s.store.Path())
	if err != nil {
		s.fail("%w", err)
		return out
	}
	defer func() { s.check(db.Close()) }()
	rows, err := db.QueryContext(context.Background(), `SELECT 'requests ' || id FROM requests
		UNION ALL SELECT 'power ' || instance || '|' || device || '|' || at FROM power UNION ALL SELECT 'configs ' || config_id FROM configs`)
	if err != nil {
		s.fail("%w", err)
		return out
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var row string
		s.check(rows.Scan(&row))
		out[row] = true
	}
	s.check(rows.Err())
	return out
}

// finish lets all faults end, ships what waits, and compares.
func (s *simulation) finish() {
	defer s.end()
	if s.problem != nil {
		return
	}
	s.model.faulty = false
	s.seed(2)
	s.disk.Before(nil)
	s.settle()
	s.flush()
	for range 100 {
		time.Sleep(settleTime + time.Second)
		if err := s.shipper.Flush(s.ctx); err == nil {
			break
		}
	}
	if b, err := s.store.NextBatch(s.ctx, 1); b != nil || err != nil {
		s.fail("rows still wait in the end: %+v, %w", b, err)
	}
	time.Sleep(time.Hour)
	s.model.work()
	inDatabase := map[string]int{}
	for table := range s.model.tables {
		for id, n := range s.model.counts(table) {
			inDatabase[table+" "+id] = n
			if n > 1 {
				s.fail("row %q is in ClickHouse %d times", table+" "+id, n)
			}
		}
	}
	for row := range s.stored() {
		if inDatabase[row] == 0 {
			s.fail("row %q is in the store and not in ClickHouse", row)
		}
	}
	for row := range s.confirmed {
		if inDatabase[row] == 0 {
			s.fail("row %q was confirmed and is not in ClickHouse", row)
		}
	}
	lost := uint64(0)
	for row := range s.offered {
		if inDatabase[row] == 0 && !s.excused[row] {
			lost++
		}
	}
	if lost > s.dropped {
		s.fail("%d rows are lost without a reason, the queue counted %d", lost, s.dropped)
	}
}

// simulatedBox notes what the store has promised.
type simulatedBox struct {
	*store.Store
	s *simulation
}

func (b simulatedBox) NextBatch(ctx context.Context, maxRows int) (*store.Batch, error) {
	written := maps.Clone(b.s.written)
	batch, err := b.Store.NextBatch(ctx, maxRows)
	if err == nil && batch != nil && !batch.Again && b.s.image == "" {
		b.s.durable = written
	}
	b.s.sending = batch
	return batch, err
}

func (b simulatedBox) ConfirmBatch(ctx context.Context, seq int64, missing ...string) error {
	if err := b.Store.ConfirmBatch(ctx, seq, missing...); err != nil {
		return err
	}
	for _, id := range b.s.sending.IDs {
		if !slices.Contains(missing, id) {
			b.s.confirmed[b.s.sending.Table+" "+id] = true
		}
	}
	return nil
}

// shrink returns the shortest history that it finds to fail too, by leaving out actions.
func shrink(actions []action, fails func([]action) bool) []action {
	for size := len(actions) / 2; size > 0; {
		shorter := false
		for from := 0; from+size <= len(actions); {
			without := slices.Concat(actions[:from], actions[from+size:])
			if fails(without) {
				actions, shorter = without, true
			} else {
				from += size
			}
		}
		if !shorter || size > len(actions) {
			size /= 2
		}
	}
	return actions
}

// Whatever happens at any step, in 100,000 histories (a few hundred without WATTLINE_SOAK): every row is in ClickHouse exactly
// once, or was lost for a stated reason. WATTLINE_SIMULATION="FIRST N LENGTH" runs others.
func TestSimulatedHistoriesSoak(t *testing.T) {
	first, n, length := uint64(0), uint64(300), 40
	if os.Getenv("WATTLINE_SOAK") != "" {
		n = 100_000
	}
	if which := os.Getenv("WATTLINE_SIMULATION"); which != "" {
		_, err := fmt.Sscan(which, &first, &n, &length)
		must(t, err)
	}
	template := filepath.Join(t.TempDir(), "template")
	s, err := store.Open(t.Context(), store.Config{Path: filepath.Join(template, "wattline.db"), Log: quiet(t)})
	must(t, err)
	must(t, s.Close())

	var mu sync.Mutex // guards met and failed
	met, failed := map[string]int{}, 0
	t.Run("all", func(t *testing.T) {
		workers := uint64(2 * runtime.GOMAXPROCS(0))
		for w := range workers {
			t.Run(strconv.Itoa(int(w)), func(t *testing.T) {
				t.Parallel()
				for seed := first + w; seed < first+n; seed += workers {
					replicated := seed%3 == 0
					faults := map[string]int{}
					actions := history(seed, length)
					err := simulate(t, template, actions, replicated, faults)
					mu.Lock()
					for k, v := range faults {
						met[k] += v
					}
					enough := failed >= 3
					if err != nil {
						failed++
					}
					mu.Unlock()
					if err == nil || enough {
						continue
					}
					short := shrink(actions, func(a []action) bool { return simulate(t, template, a, replicated, map[string]int{}) != nil })
					t.Errorf("WATTLINE_SIMULATION=\"%d 1 %d\" (replicated %v): %v\nthe shortest history that fails: %v\n%v", seed, length, replicated, err, simulate(t, template, short, replicated, faults), short)
				}
			})
		}
	})
	t.Logf("%d histories; faults: %v", n, met)
	for _, fault := range []string{"DDL in flight", "look without an answer", "refused: read-only, or no connection", "carried out later, without an answer", "restart after some parts",
		"restart between log and part", "applied without an answer", "recognised token", "part visible late"} {
		if met[fault] == 0 && n >= 100 {
			t.Errorf("no history met %q", fault)
		}
	}
}
