package console

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"wattline/meter"
	"wattline/meter/cache"
	"wattline/sink/queries"
)

const (
	maxReceiptWait = time.Minute            // of ?wait
	receiptStep    = 100 * time.Millisecond // between two looks for settled joules
	maxAround      = 200                    // rows of each kind around a request
	lookBack       = 15 * time.Minute       // how much earlier an overlapping request may have begun
)

// request answers /api/requests/ID and /api/requests/ID/context.
func (s *Server) request(c context.Context, ctx *fasthttp.RequestCtx, id string) (any, error) {
	id, around := strings.CutSuffix(id, "/context")
	p, err := parseParams(ctx, "wait")
	if err != nil {
		return nil, err
	}
	wait := p.duration("wait")
	if wait > maxReceiptWait {
		p.fail("wait is at most %v", maxReceiptWait)
	}
	if p.err != nil {
		return nil, p.err
	}
	rec, late, err := s.find(id)
	for end := time.Now().Add(wait); err == nil && rec != nil && rec.EnergyQuality == meter.EnergyPending && time.Now().Before(end); {
		<-time.After(receiptStep)
		rec, late, err = s.find(id)
	}
	switch {
	case err != nil:
		return nil, err
	case rec == nil && late:
		return nil, &failure{fasthttp.StatusServiceUnavailable, "no stored request has this id, and rows are waiting to be stored: ask again later, /api/status says what keeps them"}
	case rec == nil:
		return nil, &failure{fasthttp.StatusNotFound, "no request has this id"}
	case around:
		return s.around(c, rec)
	}
	return rec, nil
}

// mark is a moment of a request.
type mark struct {
	Mark   string    `json:"mark"`
	AtUs   meter.Int `json:"at_us"` // since P0
	Means  string    `json:"means"`
	Column string    `json:"column"` // from which it follows
}

// phaseOf is a phase on the time since P0.
type phaseOf struct {
	Phase    string    `json:"phase"`
	LengthUs meter.Int `json:"length_us"`
	FromUs   meter.Int `json:"from_us"` // null: its place is not known
	ToUs     meter.Int `json:"to_us"`
	Formula  string    `json:"formula"`
}

// surroundings is the answer of /api/requests/ID/context. A list is null where it could not be read in time.
type surroundings struct {
	Request         *meter.Record      `json:"request"`
	Efficiency      map[string]float64 `json:"efficiency"`
	Marks           []mark             `json:"marks"`
	Phases          []phaseOf          `json:"phases"`
	GapsUs          json.RawMessage    `json:"gaps_us"`
	Overlapping     rawRows            `json:"overlapping"`
	OverlappingMore bool               `json:"overlapping_more"`
	Siblings        rawRows            `json:"siblings"`
	SiblingsMore    bool               `json:"siblings_more"`
	Formulas        map[string]string  `json:"formulas"`
	CacheAdvice     string             `json:"cache_advice"` // what to do about cache_cause
}

func (s *Server) around(c context.Context, rec *meter.Record) (any, error) {
	a := &surroundings{Request: rec, CacheAdvice: cache.Advice(rec.CacheCause), Marks: marks(rec), Phases: phases(rec), GapsUs: json.RawMessage("null"), Formulas: map[string]string{}, Overlapping: rawRows{}, Siblings: rawRows{}}
	for _, col := range meter.Columns() {
		a.Formulas[col.Name] = col.Doc
	}
	var err error
	if a.Efficiency, err = queries.Efficiency(c, s.cfg.Engine, rec.ID); err != nil {
		return nil, err
	}
	if err := s.gapsOf(c, rec.ID, a); err != nil {
		return nil, err
	}
	if err := s.overlapping(c, rec, a); err != nil {
		return nil, err
	}
	return a, s.siblings(c, rec, a)
}

func marks(rec *meter.Record) []mark {
	p1 := meter.Int{V: rec.TTFTUs.V - rec.UpstreamTTFTUs.V, Valid: rec.TTFTUs.Valid && rec.UpstreamTTFTUs.Valid}
	last := meter.Int{V: rec.TTFTUs.V + rec.DecodeUs.V, Valid: rec.TTFTUs.Valid && rec.DecodeUs.Valid}
	return []mark{
		{"P0", meter.Some(0), "the request's head had been read", "started_at"},
		{"P1", p1, "the last byte of the request was written to the server", "ttft_us - upstream_ttft_us"},
		{"H", rec.TTFBUs, "the reply's head arrived", "ttfb_us"},
		{"W1", rec.TTFTUs, "the first output was written to the client", "ttft_us"},
		{"O1", rec.TTFOUs, "the first output that is no reasoning", "ttfo_us"},
		{"Tn", last, "the last output arrived", "ttft_us + decode_us"},
		{"E", rec.DurationUs, "the reply's end", "duration_us"},
	}
}

func phases(rec *meter.Record) (out []phaseOf) {
	for _, sp := range rec.Spans() {
		out = append(out, phaseOf{sp.Name, sp.Length, sp.From, sp.To(), sp.Formula})
	}
	return out
}

func (s *Server) gapsOf(c context.Context, id string, a *surroundings) error {
	var gaps any
	err := s.cfg.Engine.DB.QueryRowContext(c, "SELECT gaps_us FROM itl_gaps WHERE id = ?", id).Scan(&gaps)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	if text, ok := queries.NormalizeValue(gaps).(string); ok && json.Valid([]byte(text)) {
		a.GapsUs = json.RawMessage(text)
	}
	return nil
}

// columnsAround are the columns of the rows around a request.
func columnsAround() []string {
	return strings.Fields("id started_at agent session model route stream duration_us load_us queue_us prefill_us decode_us ttft_us upstream_ttft_us " +
		"prompt_tokens cached_tokens output_tokens gpu_uj gpu_active_uj gpu_sigma_uj gpu_estimate_uj cpu_uj energy_source energy_quality outcome")
}

// overlapping finds the rows that ran while rec did.
func (s *Server) overlapping(c context.Context, rec *meter.Record, a *surroundings) error {
	e := s.cfg.Engine
	end := rec.StartedAt.Add(time.Duration(rec.DurationUs.V+1) * time.Microsecond)
	f := queries.Filter{From: rec.StartedAt.Add(-lookBack), To: end, Condition: queries.EndsAfter(e.Dialect, rec.StartedAt) + fmt.Sprintf(" AND id <> '%s'", strings.ReplaceAll(rec.ID, "'", ""))}
	page, err := queries.List{Filter: f, Columns: columnsAround(), Sort: "started_at", Limit: maxAround}.Read(c, e.DB, e.Dialect)
	if err == nil {
		a.Overlapping, a.OverlappingMore = page.Rows, page.Next != ""
	}
	return err
}

// siblings finds the rows of rec's session around it, half of them before.
func (s *Server) siblings(c context.Context, rec *meter.Record, a *surroundings) error {
	if rec.Session == "" {
		return nil
	}
	e := s.cfg.Engine
	same := map[string][]string{"session": {rec.Session}}
	before, err := queries.List{Filter: queries.Filter{To: rec.StartedAt.Add(time.Microsecond), Equal: same}, Columns: columnsAround(), Limit: maxAround / 2}.Read(c, e.DB, e.Dialect)
	if err != nil {
		return err
	}
	after, err := queries.List{Filter: queries.Filter{From: rec.StartedAt.Add(time.Microsecond), Equal: same}, Columns: columnsAround(), Sort: "started_at", Limit: maxAround / 2}.Read(c, e.DB, e.Dialect)
	if err != nil {
		return err
	}
	for i := len(before.Rows) - 1; i >= 0; i-- {
		a.Siblings = append(a.Siblings, before.Rows[i])
	}
	a.Siblings, a.SiblingsMore = append(a.Siblings, after.Rows...), before.Next != "" || after.Next != ""
	return nil
}

// find looks a row up. A client that has just read the last byte of its reply may ask before the row is handed over, so a
// whole unknown id is looked up again for half a second, unless rows are late.
func (s *Server) find(id string) (rec *meter.Record, late bool, err error) {
	for try := 0; ; try++ {
		late = s.catchUp()
		ctx, cancel := context.WithTimeout(context.Background(), maxReading)
		rec, err = s.cfg.Rows.Find(ctx, id)
		cancel()
		if rec != nil || err != nil || late || try == 50 || len(id) < idLength || s.cfg.Flush == nil {
			return rec, late, err
		}
		<-time.After(10 * time.Millisecond)
	}
}

// idLength is the length of a whole id.
const idLength = 36
