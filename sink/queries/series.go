package queries

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// Series is the devices' energy over time, in buckets, divided by a key of the requests.
type Series struct {
	From, To time.Time
	Bucket   string         // minute, 5m, hour, day or month
	By       string         // a key of SumKeys, label:NAME, or "": not divided
	Device   string         // this one alone; "": all
	Zone     *time.Location // of days and months
}

// SeriesAnswer is the answer of Series.
type SeriesAnswer struct {
	Bucket  string         `json:"bucket"`
	By      string         `json:"by"`
	Devices []string       `json:"devices"` // in the order of by_device
	All     []string       `json:"measured_devices"`
	Keys    []*string      `json:"keys"` // most energy first; null: requests that name none
	Buckets []*SeriesPoint `json:"buckets"`
}

// SeriesPoint is one bucket. The ledger's parts and the difference are of all devices together; a null was not obtained.
type SeriesPoint struct {
	At               time.Time `json:"at"`
	SpanUs           int64     `json:"span_us"`
	CoveredUs        int64     `json:"covered_us"` // that the ledger covers, of the device that it covers most of
	CounterUj        int64     `json:"counter_uj"`
	RequestsActiveUj int64     `json:"requests_active_uj"`
	RequestsIdleUj   int64     `json:"requests_idle_uj"`
	PoolsUj          int64     `json:"pools_uj"`
	IdleUj           int64     `json:"idle_uj"`
	ResidualUj       int64     `json:"residual_uj"`
	IdleSigmaUj      *int64    `json:"idle_sigma_uj"`
	DifferenceUj     int64     `json:"difference_uj"` // counter less all parts: 0
	ByKey            []int64   `json:"by_key"`        // joules of the requests that began in it, uJ
	ByKeySigma       []int64   `json:"by_key_sigma_uj"`
	ByDevice         []int64   `json:"by_device"` // counter of each device
	EdgesUj          int64     `json:"edges_uj"`  // the ledger's requests less the rows'
	Cost             *float64  `json:"cost"`
	GCO2             *float64  `json:"gco2"`
	MeanMw           *int64    `json:"mean_mw"`
	MaxMw            *int64    `json:"max_mw"`
	TempC            *int64    `json:"temp_c"`
	VRAMBytes        *int64    `json:"vram_bytes"`
	SMClockMHz       *int64    `json:"sm_clock_mhz"`
	ThrottledUs      *int64    `json:"throttled_us"`
	LimitMw          *int64    `json:"limit_mw"`
	next             time.Time
	energyUj, spanUs int64
	variances        map[string]float64
	keys             map[string]int64
	byDevice         map[string]int64
	coveredBy        map[string]int64
	greatest         map[string]*deviceGreatest
}

// deviceGreatest are a device's greatest values in a bucket.
type deviceGreatest struct{ maxMw, vramBytes, limitMw *int64 }

const (
	maxBuckets = 2000
	maxKeys    = 12 // that are told apart; the others are one
	otherKeys  = "…"
	noKey      = "\x00" // of requests that name none
)

// Buckets lists the buckets of Series.
func Buckets() []string { return []string{"minute", "5m", "hour", "day", "month"} }

// begin is the begin of the bucket that a time lies in.
func (s Series) begin(at time.Time) time.Time {
	at = at.In(s.Zone)
	y, m, d := at.Date()
	switch s.Bucket {
	case "minute":
		return at.Truncate(time.Minute)
	case "5m":
		return at.Truncate(5 * time.Minute)
	case "hour":
		_, offset := at.Zone()
		shift := time.Duration(offset%3600) * time.Second
		return at.Add(shift).Truncate(time.Hour).Add(-shift)
	case "day":
		return dayStart(y, m, d, s.Zone)
	}
	return dayStart(y, m, 1, s.Zone)
}

// end is the end of the bucket that begins at a time.
func (s Series) end(begin time.Time) time.Time {
	switch s.Bucket {
	case "minute":
		return begin.Add(time.Minute)
	case "5m":
		return begin.Add(5 * time.Minute)
	case "hour":
		return begin.Add(time.Hour)
	case "day":
		y, m, d := begin.Date()
		return dayStart(y, m, d+1, s.Zone)
	}
	y, m, _ := begin.Date()
	return dayStart(y, m+1, 1, s.Zone)
}

// dayStart is the first moment of a local day. In some zones a day does not begin at 00:00 when the clocks change.
func dayStart(y int, m time.Month, d int, zone *time.Location) time.Time {
	day := time.Date(y, m, d, 12, 0, 0, 0, zone).Day()
	t := time.Date(y, m, d, 0, 0, 0, 0, zone)
	if t.Day() != day { // there is no 00:00, and Date chose 23:00 of the day before
		t = t.Add(time.Hour)
	}
	if before := t.Add(-time.Hour); before.Day() == day { // 00:00 is there twice
		return before
	}
	return t
}

// Check returns an error for a series that cannot be asked for.
func (s Series) Check() error {
	if !slices.Contains(Buckets(), s.Bucket) {
		return fmt.Errorf("bucket must be one of %s, not %q", strings.Join(Buckets(), ", "), s.Bucket)
	}
	if !s.From.Before(s.To) {
		return errors.New("from must lie before to")
	}
	if n := s.To.Sub(s.From) / s.end(s.begin(s.From)).Sub(s.begin(s.From)); n > maxBuckets {
		return fmt.Errorf("that are %d buckets, and at most %d are answered: choose a longer bucket or less time", n, maxBuckets)
	}
	if s.By == "" {
		return nil
	}
	_, err := groupKey(SQLite, s.By)
	return err
}

// unit is the expression of the minute or hour of a time, and its layout: the engine adds up by these, and Read makes the
// buckets of them.
func (s Series) unit(d Dialect, column string) (expr, layout string) {
	_, offset := s.From.In(s.Zone).Zone()
	if s.Bucket == "minute" || s.Bucket == "5m" || offset%3600 != 0 {
		if d == ClickHouse {
			return "formatDateTime(" + column + ", '%Y-%m-%d %H:%i', 'UTC')", "2006-01-02 15:04"
		}
		return "substr(" + column + ", 1, 16)", "2006-01-02 15:04"
	}
	if d == ClickHouse {
		return "formatDateTime(" + column + ", '%Y-%m-%d %H', 'UTC')", "2006-01-02 15"
	}
	return "substr(" + column + ", 1, 13)", "2006-01-02 15"
}

// Read reads the series.
func (s Series) Read(ctx context.Context, e *Engine) (*SeriesAnswer, error) {
	r := &seriesReader{Series: s, e: e, points: map[int64]*SeriesPoint{}, totals: map[string]int64{}, devices: map[string]bool{}, all: map[string]bool{}}
	for at := s.begin(s.From); at.Before(s.To); at = s.end(at) {
		p := &SeriesPoint{At: at.UTC(), next: s.end(at), keys: map[string]int64{}, variances: map[string]float64{}, byDevice: map[string]int64{}, coveredBy: map[string]int64{}, greatest: map[string]*deviceGreatest{}}
		p.SpanUs = p.next.Sub(at).Microseconds()
		r.points[at.Unix()], r.list = p, append(r.list, p)
	}
	for _, read := range []func(context.Context) error{r.ledger, r.power, r.requests} {
		if err := read(ctx); err != nil {
			return nil, err
		}
	}
	return r.answer(), nil
}

type seriesReader struct {
	Series
	e       *Engine
	points  map[int64]*SeriesPoint
	list    []*SeriesPoint
	totals  map[string]int64 // by key
	devices map[string]bool
	all     map[string]bool
}

// chosen reports whether a device is asked for.
func (r *seriesReader) chosen(device string) bool {
	r.all[device] = true
	return r.Device == "" || r.Device == device
}

// each calls f with the rows of a statement, which have a unit of time first: cells are pointers.
func (r *seriesReader) each(ctx context.Context, statement, layout string, cells []any, f func(p *SeriesPoint)) (err error) {
	rows, err := r.e.DB.QueryContext(ctx, statement)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var unit string
	for rows.Next() {
		if err := rows.Scan(append([]any{&unit}, cells...)...); err != nil {
			return err
		}
		at, err := time.Parse(layout, unit)
		if err != nil {
			return err
		}
		if p := r.points[r.begin(at).Unix()]; p != nil {
			f(p)
		}
	}
	return rows.Err()
}

// gpusOnly leaves out the processors' energy where there are GPUs: it is that of the whole machine.
func (r *seriesReader) gpusOnly(table string) string {
	within := fmt.Sprintf("at >= %s AND at < %s", literal(r.From), literal(r.To))
	return within + " AND (source <> 'rapl' OR (SELECT count(*) FROM " + table + " WHERE " + within + " AND source <> 'rapl') = 0)"
}

func (r *seriesReader) ledger(ctx context.Context) error {
	unit, layout := r.unit(r.e.Dialect, "at")
	var device string
	var n [8]*int64
	cells := []any{&device}
	for i := range n {
		cells = append(cells, &n[i])
	}
	return r.each(ctx, fmt.Sprintf(`SELECT %s AS unit_of_time, device, sum(span_us), sum(counter_uj), sum(requests_active_uj), sum(requests_idle_uj), sum(pools_uj), sum(idle_uj), sum(residual_uj), sum(idle_sigma_uj)
FROM ledger WHERE %s GROUP BY unit_of_time, device`, unit, r.gpusOnly("ledger")), layout, cells, func(p *SeriesPoint) {
		if !r.chosen(device) {
			return
		}
		r.devices[device] = true
		p.coveredBy[device] += orZero(n[0])
		p.byDevice[device] += orZero(n[1])
		p.CounterUj += orZero(n[1])
		p.RequestsActiveUj += orZero(n[2])
		p.RequestsIdleUj += orZero(n[3])
		p.PoolsUj += orZero(n[4])
		p.IdleUj += orZero(n[5])
		p.ResidualUj += orZero(n[6])
		if n[7] != nil {
			sum := orZero(p.IdleSigmaUj) + *n[7]
			p.IdleSigmaUj = &sum
		}
	})
}

func (r *seriesReader) power(ctx context.Context) error {
	unit, layout := r.unit(r.e.Dialect, "at")
	var device string
	var n [7]*int64
	var clock *float64
	return r.each(ctx, fmt.Sprintf(`SELECT %s AS unit_of_time, device, sum(energy_uj), sum(CASE WHEN energy_uj IS NOT NULL THEN span_us END), max(max_mw), max(temp_c), max(vram_bytes), sum(throttled_us), max(limit_mw), avg(sm_clock_mhz)
FROM power WHERE %s GROUP BY unit_of_time, device`, unit, r.gpusOnly("power")), layout, []any{&device, &n[0], &n[1], &n[2], &n[3], &n[4], &n[5], &n[6], &clock}, func(p *SeriesPoint) {
		if !r.chosen(device) {
			return
		}
		p.energyUj, p.spanUs = p.energyUj+orZero(n[0]), p.spanUs+orZero(n[1])
		p.TempC = greater(p.TempC, n[3])
		of := p.greatest[device]
		if of == nil {
			of = &deviceGreatest{}
			p.greatest[device] = of
		}
		of.maxMw, of.vramBytes, of.limitMw = greater(of.maxMw, n[2]), greater(of.vramBytes, n[4]), greater(of.limitMw, n[6])
		if n[5] != nil {
			sum := orZero(p.ThrottledUs) + *n[5]
			p.ThrottledUs = &sum
		}
		if clock != nil {
			mhz := int64(math.Round(*clock))
			p.SMClockMHz = greater(p.SMClockMHz, &mhz)
		}
	})
}

func (r *seriesReader) requests(ctx context.Context) error {
	unit, layout := r.unit(r.e.Dialect, "started_at")
	key, group := "'all'", ""
	if r.By != "" {
		var err error
		if key, err = groupKey(r.e.Dialect, r.By); err != nil {
			return err
		}
		group = ", key_of_row"
	}
	share, sigma := usageUj, usageVariance
	if r.Device != "" {
		share = r.e.Dialect.deviceShare(r.Device)
		sigma = fmt.Sprintf("(%[3]s) * (1e0 * %[1]s / nullIf(%[2]s, 0)) * (1e0 * %[1]s / nullIf(%[2]s, 0))", share, usageUj, usageVariance)
	}
	var name any
	var uj *int64
	var variance, cost, gco2 *float64
	return r.each(ctx, fmt.Sprintf(`SELECT %s AS unit_of_time, %s AS key_of_row, sum(%[3]s), sum(%[7]s), sum(%[3]s / 3.6e12 * price_per_kwh_micro / 1e6), sum(%[3]s / 3.6e12 * gco2_per_kwh_milli / 1e3)
FROM requests WHERE started_at >= %[4]s AND started_at < %[5]s GROUP BY unit_of_time%[6]s`, unit, key, share, literal(r.From), literal(r.To), group, sigma), layout, []any{&name, &uj, &variance, &cost, &gco2}, func(p *SeriesPoint) {
		k := noKey
		if t := textOf(name); t != nil {
			k = *t
		}
		p.keys[k] += orZero(uj)
		r.totals[k] += orZero(uj)
		if variance != nil {
			p.variances[k] += *variance
		}
		p.Cost, p.GCO2 = plus(p.Cost, cost), plus(p.GCO2, gco2)
	})
}

// answer puts the keys in order and adds up.
func (r *seriesReader) answer() *SeriesAnswer {
	a := &SeriesAnswer{Bucket: r.Bucket, By: r.By, Devices: []string{}, All: slices.AppendSeq([]string{}, maps.Keys(r.all)), Keys: []*string{}, Buckets: r.list}
	for d := range r.devices {
		a.Devices = append(a.Devices, d)
	}
	slices.Sort(a.Devices)
	slices.Sort(a.All)
	var keys []string
	for k := range r.totals {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(x, y string) int { return cmp.Or(cmp.Compare(r.totals[y], r.totals[x]), cmp.Compare(x, y)) })
	place := map[string]int{}
	for i, k := range keys {
		switch {
		case i < maxKeys && k == noKey:
			a.Keys = append(a.Keys, nil)
		case i < maxKeys:
			a.Keys = append(a.Keys, &keys[i])
		case i == maxKeys:
			other := otherKeys
			a.Keys = append(a.Keys, &other)
		}
		place[k] = min(i, maxKeys)
	}
	for _, p := range r.list {
		p.finish(a, place)
	}
	return a
}

func (p *SeriesPoint) finish(a *SeriesAnswer, place map[string]int) {
	p.ByKey, p.ByKeySigma, p.ByDevice = make([]int64, len(a.Keys)), make([]int64, len(a.Keys)), make([]int64, len(a.Devices))
	variances, rows := make([]float64, len(a.Keys)), int64(0)
	for k, uj := range p.keys {
		p.ByKey[place[k]] += uj
		variances[place[k]] += p.variances[k]
		rows += uj
	}
	for i, v := range variances {
		p.ByKeySigma[i] = int64(math.Round(math.Sqrt(v)))
	}
	for i, d := range a.Devices {
		p.ByDevice[i], p.CoveredUs = p.byDevice[d], max(p.CoveredUs, p.coveredBy[d])
	}
	p.DifferenceUj = p.CounterUj - p.RequestsActiveUj - p.RequestsIdleUj - p.PoolsUj - p.IdleUj - p.ResidualUj
	p.EdgesUj = p.RequestsActiveUj + p.RequestsIdleUj + p.PoolsUj - rows
	for _, of := range p.greatest {
		p.MaxMw, p.VRAMBytes, p.LimitMw = sum(p.MaxMw, of.maxMw), sum(p.VRAMBytes, of.vramBytes), sum(p.LimitMw, of.limitMw)
	}
	if p.spanUs > 0 {
		mean := p.energyUj * int64(max(1, len(a.Devices))) / (p.spanUs / 1000)
		p.MeanMw = &mean
	}
}

func orZero(v *int64) int64 {
	if v == nil {
		return 0
	}
	return *v
}

// greater is the greater of two; a null is none.
func greater(a, b *int64) *int64 {
	if b == nil || a != nil && *a >= *b {
		return a
	}
	v := *b
	return &v
}

// sum is of two of which a null is not obtained.
func sum(a, b *int64) *int64 {
	if a == nil || b == nil {
		return cmp.Or(a, b)
	}
	v := *a + *b
	return &v
}

func plus(a, b *float64) *float64 {
	if b == nil {
		return a
	}
	v := *b
	if a != nil {
		v += *a
	}
	return &v
}
