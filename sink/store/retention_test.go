package store

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wattline/meter"
	"wattline/sink"
)

const day = 24 * time.Hour

func retire(t *testing.T, s *Store, now time.Time, r Retention) RetentionResult {
	t.Helper()
	done, err := s.EnforceRetention(t.Context(), now, r)
	must(t, err)
	return done
}

func shipAll(t *testing.T, s *Store) {
	t.Helper()
	for b := next(t, s, 10000); b != nil; b = next(t, s, 10000) {
		must(t, s.ConfirmBatch(t.Context(), b.Seq))
	}
}

func number(t *testing.T, s *Store, query string) (n int64) {
	t.Helper()
	must(t, s.reads.QueryRowContext(t.Context(), query).Scan(&n))
	return n
}

func TestOldRowsExpire(t *testing.T) {
	for _, shipping := range []bool{false, true} {
		s := tempStore(t)
		pending := request(2)
		pending.EnergyQuality = meter.EnergyPending
		young := request(0)
		young.ID, young.StartedAt = "young", epoch.Add(2*day)
		must(t, s.Write(t.Context(), &sink.Rows{Requests: []*meter.Record{request(0), request(1), pending, young}, Power: []*sink.Power{power(0)}}))
		now := epoch.Add(401 * day)
		r := Retention{Shipping: shipping}
		first := retire(t, s, now, r)
		if shipping {
			if first != (RetentionResult{}) {
				t.Errorf("rows that wait to be shipped went: %+v", first)
			}
			shipAll(t, s)
			first = retire(t, s, now, r)
		}
		if first.Expired != 3 || first.Lost != 0 {
			t.Errorf("shipping %v: %+v", shipping, first)
		}
		if n := number(t, s, "SELECT count(*) FROM requests WHERE id = 'young' OR energy_quality = 'pending'"); n != 2 {
			t.Errorf("shipping %v: %d of 2 rows stayed", shipping, n)
		}
	}
}

// Raw gaps have a short life of their own, and a hard cap drops them like other rows.
func TestRawGapsExpireFirst(t *testing.T) {
	s := tempStore(t)
	rows := &sink.Rows{Requests: requests(0, 2)}
	for i, age := range []int{8, 3} {
		rows.Gaps = append(rows.Gaps, &sink.Gaps{ID: request(i).ID, StartedAt: epoch.Add(-time.Duration(age) * day), GapsUs: []uint32{1, 0, 5}})
	}
	must(t, s.Write(t.Context(), rows))
	if done := retire(t, s, epoch, Retention{Shipping: true}); done != (RetentionResult{}) {
		t.Errorf("rows that wait to be shipped went: %+v", done)
	}
	w, err := s.Waiting(t.Context())
	must(t, err)
	if w.Rows[TableGaps] != 2 {
		t.Errorf("%+v", w)
	}
	shipAll(t, s)
	if done := retire(t, s, epoch, Retention{Shipping: true}); done != (RetentionResult{Expired: 1}) || number(t, s, "SELECT count(*) FROM itl_gaps") != 1 {
		t.Errorf("of rows 8 and 3 days old: %+v", done)
	}
	if done := retire(t, s, epoch, Retention{Gaps: day}); done != (RetentionResult{Expired: 1}) || number(t, s, "SELECT count(*) FROM requests") != 2 {
		t.Errorf("with a day to live: %+v", done)
	}
	must(t, s.Write(t.Context(), &sink.Rows{Gaps: []*sink.Gaps{{ID: "large", StartedAt: epoch, GapsUs: make([]uint32, 1<<19)}}}))
	done := retire(t, s, epoch, Retention{MaxBytes: 512 << 10, Shipping: true})
	if done.Lost != 1 || number(t, s, "SELECT value FROM counters WHERE name = 'lost_itl_gaps'") != 1 {
		t.Errorf("beyond the size: %+v", done)
	}
}

// A batch that was begun is never cut by age, also when shipping has been switched off since.
func TestUnconfirmedBatchDoesNotExpire(t *testing.T) {
	s := tempStore(t)
	must(t, s.Write(t.Context(), &sink.Rows{Requests: requests(0, 10)}))
	b := next(t, s, 4)
	if done := retire(t, s, epoch.Add(500*day), Retention{}); done.Expired != 6 {
		t.Errorf("%+v", done)
	}
	if d := cmp.Diff(b.IDs, next(t, s, 4).IDs); d != "" {
		t.Error(d)
	}
}

// seconds is two hours of two devices, a row every 5 s, from 30 s before a full minute.
func seconds() *sink.Rows {
	rows := new(sink.Rows)
	start := time.Date(2026, 1, 1, 9, 59, 30, 0, time.UTC)
	for i := range 1440 {
		for d, device := range []string{"GPU-0", "GPU-1"} {
			at := start.Add(time.Duration(5*i) * time.Second)
			n := int64(i*7 + d)
			p := &sink.Power{
				At: at, Instance: "test", Device: device, SpanUs: meter.Some(5_000_000), EnergyUj: meter.Some(n), MeanMw: meter.Some(n), MaxMw: meter.Some(2 * n),
				TempC: meter.Some(n % 50), LimitMw: meter.Some(700_000), ThrottledUs: meter.Some(int64(i % 3)),
				ErrorUj: meter.Some(2), MinMw: meter.Some(n), SMClockMHz: meter.Some(n), Simulated: meter.Some(int64(d)), Channel: "ring",
			}
			if i%120 == 0 {
				p.Throttle, p.Marked = []string{"sw_power_cap"}, "two reasons; for doubt"
			}
			if i%120 == 1 {
				p.Marked = "for doubt"
			}
			rows.Power = append(rows.Power, p)
			rows.Ledger = append(rows.Ledger, &sink.Ledger{
				At: at, Instance: "test", Device: device, SpanUs: meter.Some(5_000_000), CounterUj: meter.Some(10 * n), RequestsActiveUj: meter.Some(5 * n),
				RequestsIdleUj: meter.Some(2 * n), PoolsUj: meter.Some(n - 10), IdleUj: meter.Some(n), ResidualUj: meter.Some(n + 10),
			})
		}
	}
	return rows
}

func TestDownsampling(t *testing.T) {
	s := tempStore(t)
	must(t, s.Write(t.Context(), seconds()))
	now := time.Date(2026, 1, 15, 11, 30, 45, 0, time.UTC) // 14 days before: 91 minutes and 15 s into the two hours
	const totals = "SELECT sum(energy_uj) + 11 * sum(error_uj) + 3 * sum(span_us) + 5 * sum(throttled_us) + 7 * max(max_mw) FROM power"
	const balance = "SELECT count(*) FROM ledger WHERE counter_uj <> requests_active_uj + requests_idle_uj + pools_uj + idle_uj + residual_uj"
	before, counter := number(t, s, totals), number(t, s, "SELECT sum(counter_uj) FROM ledger")

	if done := retire(t, s, now, Retention{Shipping: true}); done.Downsampled != 0 {
		t.Errorf("seconds were downsampled before they were shipped: %+v", done)
	}
	shipAll(t, s)
	// 9:59:30 to 11:30:00 is 5430 s, 1086 rows: one half minute, then 90 whole ones.
	if done := retire(t, s, now, Retention{Shipping: true}); done != (RetentionResult{Downsampled: 2 * 2 * 1086}) {
		t.Errorf("%+v", done)
	}
	if done := retire(t, s, now, Retention{Shipping: true}); done != (RetentionResult{}) {
		t.Errorf("a second time: %+v", done)
	}
	for _, table := range []string{"power", "ledger"} {
		if n := number(t, s, "SELECT count(*) FROM "+table); n != 2*(91+1440-1086) {
			t.Errorf("%s has %d rows", table, n)
		}
		if n := number(t, s, "SELECT count(*) FROM "+table+" WHERE span_us = 60000000 AND at < '2026-01-01 11:30:00'"); n != 180 {
			t.Errorf("%s has %d whole minutes", table, n)
		}
	}
	if after := number(t, s, totals); after != before {
		t.Errorf("the sums over power were %d and are %d", before, after)
	}
	if n := number(t, s, balance); n != 0 || number(t, s, "SELECT sum(counter_uj) FROM ledger") != counter {
		t.Errorf("the ledger no longer balances in %d rows", n)
	}
	if n := number(t, s, "SELECT mean_mw FROM power WHERE at = '2026-01-01 10:00:00.000000' AND device = 'GPU-0'"); n != (6*7+17*7+1)/2 {
		t.Errorf("the mean of the minute is %d mW, want 80.5, rounded", n)
	}
	if n := number(t, s, "SELECT sm_clock_mhz + 1000 * min_mw FROM power WHERE at = '2026-01-01 10:00:00.000000' AND device = 'GPU-0'"); n != (6*7+17*7+1)/2+1000*6*7 {
		t.Errorf("clock and lowest power of the minute are %d", n)
	}
	if n := number(t, s, "SELECT count(*) FROM power WHERE marked = 'two reasons; for doubt' AND span_us > 5000000 AND simulated = (device = 'GPU-1') AND channel = 'ring'"); n != 2*10 {
		t.Errorf("%d minutes know why they are to be taken with care", n)
	}
	if n := number(t, s, "SELECT count(*) FROM power WHERE throttle = '[\"sw_power_cap\"]' AND span_us > 5000000"); n != 2*10 {
		t.Errorf("%d minutes know that they were throttled", n)
	}
	if b := next(t, s, 10); b != nil {
		t.Errorf("minutes ship again: %d of %s", len(b.IDs), b.Table)
	}
	if done := retire(t, s, now.Add(30*day), Retention{}); done.Downsampled != 2*2*(1440-1086) {
		t.Errorf("the rest: %+v", done)
	}
}

func TestSizeLimitEvictsOldest(t *testing.T) {
	s := tempStore(t)
	for i := 0; i < 16000; i += 2000 {
		rows := &sink.Rows{Requests: requests(i, i+2000)}
		for j := range 200 {
			rows.Power = append(rows.Power, power(i/10+j))
		}
		must(t, s.Write(t.Context(), rows))
	}
	first := next(t, s, 1000)
	must(t, s.ConfirmBatch(t.Context(), first.Seq))
	open := next(t, s, 3000) // on its way
	size, err := s.Size(t.Context())
	must(t, err)
	limit := size.UsedBytes / 2
	done := retire(t, s, epoch, Retention{Shipping: true, MaxBytes: limit})
	after, err := s.Size(t.Context())
	must(t, err)
	t.Logf("%d bytes of %d used after the limit of %d; %+v", after.UsedBytes, after.FileBytes, limit, done)
	if after.UsedBytes > limit || after.FileBytes > limit || after.UsedBytes < limit*8/10 {
		t.Errorf("%d bytes are used of a file of %d; the limit is %d", after.UsedBytes, after.FileBytes, limit)
	}
	left := number(t, s, "SELECT (SELECT count(*) FROM requests) + (SELECT count(*) FROM power)")
	if done.Evicted != 17600-left || done.Lost != done.Evicted-1000 {
		t.Errorf("%+v, but %d rows are left", done, left)
	}
	w, err := s.Waiting(t.Context())
	must(t, err)
	if lost, err := s.Lost(t.Context()); err != nil || lost != done.Lost {
		t.Errorf("it tells %d lost rows, %v", lost, err)
	}
	if w.Rows[TableRequests]+w.Rows[TablePower] != left {
		t.Errorf("it shows %+v", w)
	}
	if n := number(t, s, "SELECT count(*) FROM requests WHERE id = '"+request(15999).ID+"'"); n != 1 {
		t.Error("the newest row is gone")
	}
	must(t, s.ConfirmBatch(t.Context(), open.Seq)) // its rows are gone; nothing comes of it
	b := next(t, s, 10)
	if b == nil || b.Token == open.Token || b.Again {
		t.Errorf("after the loss: %+v", b)
	}
}

// cancelOn ends a context when a line with some text is logged.
type cancelOn struct {
	slog.Handler
	text   string
	cancel context.CancelFunc
	log    *strings.Builder
}

func (h cancelOn) Handle(_ context.Context, r slog.Record) error {
	fmt.Fprint(h.log, r.Message)
	if strings.Contains(r.Message, h.text) {
		h.cancel()
	}
	return nil
}

func TestRetentionLogsLostRows(t *testing.T) {
	s := tempStore(t)
	must(t, s.Write(t.Context(), &sink.Rows{Requests: requests(0, 5000)}))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var log strings.Builder
	s.log = slog.New(cancelOn{slog.NewTextHandler(&log, nil), "dropped before they were shipped", cancel, &log})
	s.RunRetention(ctx, Retention{MaxBytes: 500 << 10, Shipping: true})
	if ctx.Err() != context.Canceled {
		t.Errorf("nothing was said: %q", log.String())
	}
}

// Without ClickHouse no row counts as lost before it was shipped.
func TestFullStoreWithoutShippingLosesNothing(t *testing.T) {
	s := tempStore(t)
	must(t, s.Write(t.Context(), &sink.Rows{Requests: requests(0, 5000)}))
	if done := retire(t, s, epoch, Retention{MaxBytes: 500 << 10}); done.Evicted == 0 || done.Lost != 0 {
		t.Errorf("%+v", done)
	}
	if lost, err := s.Lost(t.Context()); err != nil || lost != 0 {
		t.Errorf("%d rows count as lost, %v", lost, err)
	}
}

// A file that is moved or deleted under the writer is said; one that is where it was is not.
func TestMissingFileLogged(t *testing.T) {
	var log bytes.Buffer
	s, err := Open(t.Context(), Config{Path: t.TempDir() + "/wattline.db", Log: slog.New(slog.NewTextHandler(&log, nil))})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	look := func() string {
		log.Reset()
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // one look
		s.RunRetention(ctx, Retention{})
		return log.String()
	}
	if said := look(); strings.Contains(said, "moved or deleted") {
		t.Errorf("of a file that is there: %s", said)
	}
	must(t, os.Rename(s.Path(), s.Path()+".old"))
	if said := look(); !strings.Contains(said, "moved or deleted") || !strings.Contains(said, s.Path()) {
		t.Errorf("of a file that was moved: %q", said)
	}
	must(t, os.WriteFile(s.Path(), nil, 0o600))
	if said := look(); !strings.Contains(said, "moved or deleted") {
		t.Errorf("of a file that was replaced: %q", said)
	}
}

// A minute keeps the sum, the time-weighted mean, the highest or lowest value, or the last known one, as each
// column's documentation says.
func TestDownsamplePowerColumns(t *testing.T) {
	some := meter.Some
	at := epoch.Truncate(time.Minute)
	first := &sink.Power{
		At: at, Device: "GPU-0", SpanUs: some(1_000_000), EnergyUj: some(10), ErrorUj: some(1), MeanMw: some(100), MinMw: some(90), MaxMw: some(110), TempC: some(70),
		MemTempC: some(80), UtilPermille: some(100), MemUtilPermille: some(10), VRAMBytes: some(5), UpstreamVRAMBytes: some(4), SMClockMHz: some(1000), MemClockMHz: some(500),
		LimitMw: some(300), ThrottledUs: some(7), Throttle: []string{"heat"}, Contended: some(1), Channel: "ring", Marked: "gap", Simulated: some(0),
	}
	second := &sink.Power{
		At: at.Add(time.Second), Device: "GPU-0", SpanUs: some(3_000_000), EnergyUj: some(20), ErrorUj: some(2), MeanMw: some(200), MinMw: some(50), MaxMw: some(105),
		TempC: some(60), MemTempC: some(75), UtilPermille: some(500), MemUtilPermille: some(50), VRAMBytes: some(3), UpstreamVRAMBytes: some(2), SMClockMHz: some(2000),
		MemClockMHz: some(900), LimitMw: some(250), ThrottledUs: some(8), Throttle: []string{"heat", "cap"}, Contended: some(0), Channel: "counter", Marked: "late", Simulated: some(0),
	}
	want := &sink.Power{
		At: at, Device: "GPU-0", SpanUs: some(4_000_000), EnergyUj: some(30), ErrorUj: some(3), MeanMw: some(175), MinMw: some(50), MaxMw: some(110), TempC: some(70),
		MemTempC: some(80), UtilPermille: some(400), MemUtilPermille: some(40), VRAMBytes: some(5), UpstreamVRAMBytes: some(4), SMClockMHz: some(1750), MemClockMHz: some(800),
		LimitMw: some(250), ThrottledUs: some(15), Throttle: []string{"heat", "cap"}, Contended: some(1), Channel: "counter", Marked: "gap; late", Simulated: some(0),
	}
	merged, into := downsamplePower([]*sink.Power{first, second})
	if d := cmp.Diff([]*sink.Power{want}, merged); d != "" || !slices.Equal(into, []int{0, 0}) {
		t.Errorf("%v %s", into, d)
	}
}

// downsampleRules says of each column what becomes of its values: of 4, 8, 2 and 6 in seconds of 1, 1, 2 and 4.
var downsampleRules = map[string]string{ //nolint:gochecknoglobals // a table
	"power.at": "minute", "power.instance": "key", "power.device": "key", "power.span_us": "sum", "power.energy_uj": "sum", "power.error_uj": "sum",
	"power.mean_mw": "mean", "power.min_mw": "min", "power.max_mw": "max", "power.temp_c": "max", "power.mem_temp_c": "max", "power.util_permille": "mean",
	"power.mem_util_permille": "mean", "power.vram_bytes": "max", "power.upstream_vram_bytes": "max", "power.sm_clock_mhz": "mean", "power.mem_clock_mhz": "mean",
	"power.limit_mw": "last", "power.throttled_us": "sum", "power.throttle": "union", "power.contended": "max", "power.source": "first", "power.channel": "last",
	"power.marked": "marks", "power.simulated": "max",
	"ledger.at": "minute", "ledger.instance": "key", "ledger.device": "key", "ledger.span_us": "sum", "ledger.counter_uj": "sum", "ledger.requests_active_uj": "sum",
	"ledger.requests_idle_uj": "sum", "ledger.pools_uj": "sum", "ledger.idle_uj": "sum", "ledger.residual_uj": "sum", "ledger.idle_sigma_uj": "sum", "ledger.source": "first",
}

// TestDownsampleEveryColumn: each column of old seconds follows its rule, for each of two GPUs by itself, through the store. A
// new column must say its rule.
func TestDownsampleEveryColumn(t *testing.T) {
	s := tempStore(t)
	var rows sink.Rows
	at := epoch.Truncate(time.Minute)
	for gpu := range int64(2) {
		for i := range downsampleSpans {
			p, l := &sink.Power{}, &sink.Ledger{}
			fillSecond(t, "power", sink.PowerColumns(), p, i, gpu)
			fillSecond(t, "ledger", sink.LedgerColumns(), l, i, gpu)
			p.At = at.Add(time.Duration(i)*time.Second + time.Duration(gpu))
			l.At = p.At
			rows.Power, rows.Ledger = append(rows.Power, p), append(rows.Ledger, l)
		}
	}
	must(t, s.Write(t.Context(), &rows))
	done, err := s.EnforceRetention(t.Context(), at.Add(48*time.Hour), Retention{Samples: 24 * time.Hour})
	must(t, err)
	if done.Downsampled != 16 {
		t.Errorf("%d rows were merged, not 16", done.Downsampled)
	}
	checkMinutes(t, s, "power", sink.PowerColumns(), at)
	checkMinutes(t, s, "ledger", sink.LedgerColumns(), at)
}

var (
	downsampleSpans  = []int64{1, 1, 2, 4}                                                               //nolint:gochecknoglobals // the seconds of the test
	downsampleValues = []int64{4, 8, 2, 6}                                                               //nolint:gochecknoglobals // likewise
	downsampled      = map[string]int64{"sum": 20, "mean": 5, "min": 2, "max": 8, "first": 4, "last": 6} //nolint:gochecknoglobals // likewise
)

// fillSecond gives every column its value of second i. Of the second GPU all values are greater by 100 (their sum by 400).
func fillSecond[T any](t *testing.T, table string, columns []sink.Column[T], row *T, i int, gpu int64) {
	t.Helper()
	for _, c := range columns {
		rule := downsampleRules[table+"."+c.Name]
		switch p := c.Ptr(row).(type) {
		case *meter.Int:
			if *p = meter.Some(downsampleValues[i] + 100*gpu); c.Name == "span_us" {
				*p = meter.Some(downsampleSpans[i])
			}
		case *string:
			if *p = fmt.Sprint(c.Name, downsampleValues[i], gpu); rule == "key" {
				*p = fmt.Sprint(c.Name, gpu)
			} else if rule == "marks" && i == 3 {
				*p = fmt.Sprint(c.Name, downsampleValues[1], gpu) // again
			}
		case *[]string:
			*p = []string{fmt.Sprint("reason", downsampleValues[i], gpu), "same"}
		case *time.Time:
		default:
			t.Fatalf("%s.%s has a type that this test does not know", table, c.Name)
		}
		if rule == "" {
			t.Errorf("%s.%s has no rule: say in downsample.go and in this test what becomes of it", table, c.Name)
		}
	}
}

// checkMinutes compares the rows of a table with the rules.
func checkMinutes[T any](t *testing.T, s *Store, name string, columns []sink.Column[T], at time.Time) {
	t.Helper()
	of := newTables()
	var of1 any = of.power
	if name == "ledger" {
		of1 = of.ledger
	}
	tab, ok := of1.(table[T])
	if !ok {
		t.Fatalf("%s is no table of these rows", name)
	}
	rows, _, err := tab.read(t.Context(), s.reads, "ship_seq", "ORDER BY device")
	must(t, err)
	if len(rows) != 2 {
		t.Fatalf("%d rows of %s, not one for each GPU", len(rows), name)
	}
	for gpu, row := range rows {
		for _, c := range columns {
			rule := downsampleRules[name+"."+c.Name]
			want := ""
			switch c.Ptr(row).(type) {
			case *meter.Int:
				n := downsampled[rule] + 100*int64(gpu)
				if rule == "sum" {
					n = downsampled[rule] + 400*int64(gpu)
				}
				if c.Name == "span_us" {
					n = 8
				}
				want = fmt.Sprint(n)
			case *string:
				want = fmt.Sprint(c.Name, downsampled[rule], gpu)
				if rule == "key" {
					want = fmt.Sprint(c.Name, gpu)
				} else if rule == "marks" {
					want = fmt.Sprintf("%[1]s4 %[2]d; %[1]s8 %[2]d; %[1]s2 %[2]d", c.Name, gpu)
				}
			case *[]string:
				want = fmt.Sprintf(`["reason4 %[1]d","same","reason8 %[1]d","reason2 %[1]d","reason6 %[1]d"]`, gpu)
			case *time.Time:
				want = literal(at)
			}
			got, err := FieldText(c.Ptr(row))
			must(t, err)
			if got != want {
				t.Errorf("%s.%s of GPU %d (%s): %s, expected %s", name, c.Name, gpu, rule, got, want)
			}
		}
	}
}

// TestKeepNone: a time of zero keeps nothing; a Retention's zero would keep the default.
func TestKeepNone(t *testing.T) {
	for keep, want := range map[time.Duration]time.Duration{0: time.Nanosecond, time.Hour: time.Hour} {
		if got := (Retention{Prompts: KeepFor(keep)}).WithDefaults().Prompts; got != want {
			t.Errorf("keep %v: %v, want %v", keep, got, want)
		}
	}
}
