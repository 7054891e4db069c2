package html

import (
	"cmp"
	"slices"
	"time"

	"wattline/meter"
	"wattline/replay"
	"wattline/replay/report"
)

// charts is the data of all charts; runcharts.js of the console draws it. Times are seconds after the run's first request,
// or milliseconds where the name says so. Null is "not measured".
type charts struct {
	Runs []chartRun `json:"runs"`
}

type chartRun struct {
	Label  string       `json:"label"`
	Cells  []chartCell  `json:"cells"`
	Lanes  []laneEntry  `json:"lanes"`
	Slots  int          `json:"lane_count"`
	Power  []curve      `json:"power"`
	Gauge  [][2]float64 `json:"gauge"`
	Length float64      `json:"length_s"`
}

type chartCell struct {
	Name         string           `json:"name"`
	Task         string           `json:"task"`
	PromptTokens int              `json:"prompt"`
	OutputTokens int              `json:"output"`
	TTFTMs       []float64        `json:"ttft_ms"` // sorted, of every request
	TPOTMs       []float64        `json:"tpot_ms"` // likewise
	TTFTMean     replay.Num       `json:"ttft_mean_ms"`
	TPS          replay.Num       `json:"tps"`
	JPerToken    replay.Num       `json:"j_per_token"`
	PrefillJ     replay.Num       `json:"prefill_j"`
	DecodeJ      replay.Num       `json:"decode_j"`
	IdleJ        replay.Num       `json:"idle_j"` // while it held a slot
	WaitedJ      replay.Num       `json:"waited_j"`
	Waterfall    replay.Waterfall `json:"waterfall"`
}

// laneEntry is one request in a lane of its own as long as it lasts.
type laneEntry struct {
	Lane  int        `json:"lane"`
	Cell  int        `json:"cell"` // index in Cells
	From  float64    `json:"from"`
	First replay.Num `json:"first"` // first token
	To    float64    `json:"to"`
	OK    bool       `json:"ok"`
}

type curve struct {
	Device string       `json:"device"`
	Points [][2]float64 `json:"points"` // seconds, watts
}

func chartsOf(runs []report.LabelledRun) charts {
	var c charts
	for _, run := range runs {
		c.Runs = append(c.Runs, chartRunOf(run))
	}
	return c
}

// ChartsOf is what the charts of one run show.
func ChartsOf(run report.LabelledRun) any { return chartRunOf(run) }

func chartRunOf(run report.LabelledRun) chartRun {
	out := chartRun{Label: run.Label}
	index := map[replay.Cell]int{}
	for i, o := range run.Results.Cells {
		index[o.Cell] = i
		out.Cells = append(out.Cells, chartCell{
			Name: o.String(), Task: o.Task, PromptTokens: o.PromptTokens, OutputTokens: o.OutputTokens,
			TTFTMean: o.TTFTMs.Mean, TPS: o.TokensPerSecond.Mean, JPerToken: replay.Ratio(replay.Some(1), o.TokensPerJoule),
			PrefillJ: o.PrefillJ.Mean, DecodeJ: o.DecodeJ.Mean, IdleJ: o.HeldJ(), WaitedJ: o.WaitingJ.Mean, Waterfall: o.Waterfall,
		})
	}
	if run.Run == nil || len(run.Run.Exchanges) == 0 {
		return out
	}
	list := slices.Clone(run.Run.Exchanges)
	slices.SortStableFunc(list, func(a, b *replay.Exchange) int { return a.StartedAt.Compare(b.StartedAt) })
	begin := list[0].StartedAt
	out.lanes(list, begin, func(e *replay.Exchange) (int, bool) { i, ok := index[run.Run.Plan.Cells[e.Key.Cell]]; return i, ok })
	for i := range out.Cells {
		slices.Sort(out.Cells[i].TTFTMs)
		slices.Sort(out.Cells[i].TPOTMs)
	}
	out.power(run.Run, begin)
	return out
}

// lanes puts each request into the first lane that is free when it starts.
func (c *chartRun) lanes(list []*replay.Exchange, begin time.Time, cellOf func(*replay.Exchange) (int, bool)) {
	var free []float64 // when each lane is free
	for _, e := range list {
		i, ok := cellOf(e)
		if !ok {
			continue
		}
		if e.OK() && e.TTFTUs.Valid {
			c.Cells[i].TTFTMs = append(c.Cells[i].TTFTMs, float64(e.TTFTUs.V)/1e3)
			if tpot := e.TPOTUs(); tpot.Valid {
				c.Cells[i].TPOTMs = append(c.Cells[i].TPOTMs, tpot.V/1e3)
			}
		}
		from := e.StartedAt.Sub(begin).Seconds()
		end := cmp.Or(e.EndUs.V, e.LastUs.V)
		l := laneEntry{Cell: i, From: from, To: from + float64(end)/1e6, OK: e.OK()}
		if e.TTFTUs.Valid {
			l.First = replay.Some(from + float64(e.TTFTUs.V)/1e6)
		}
		l.Lane = slices.IndexFunc(free, func(at float64) bool { return at <= from+1e-6 }) // rounding
		if l.Lane < 0 {
			l.Lane = len(free)
			free = append(free, 0)
		}
		free[l.Lane] = l.To
		c.Length = max(c.Length, l.To)
		c.Lanes = append(c.Lanes, l)
	}
	c.Slots = len(free)
}

// power is the finest curve there is of each device, and the proxy's gauge.
func (c *chartRun) power(run *replay.Run, begin time.Time) {
	for _, k := range run.Power.Curves {
		line := curve{Device: k.Device}
		for i, mw := range k.MilliWatts {
			at := k.From.Add(time.Duration(i) * time.Duration(k.StepUs) * time.Microsecond)
			line.Points = append(line.Points, [2]float64{thousandths(at.Sub(begin)), float64(mw/100) / 10})
		}
		c.Power = append(c.Power, line)
	}
	if len(c.Power) == 0 {
		c.seconds(run, begin)
	}
	for i := range c.Power {
		c.Power[i].Points = thin(c.Power[i].Points)
	}
	for _, g := range run.Gauge {
		c.Gauge = append(c.Gauge, [2]float64{thousandths(g.At.Sub(begin)), float64(g.InFlight)})
	}
	c.Gauge = thin(c.Gauge)
}

// mostPoints is how many points a curve has: two for each pixel of a wide chart.
const mostPoints = 4000

// thin keeps of a long curve the lowest and the highest point of each of equal parts, in their order.
func thin(points [][2]float64) [][2]float64 {
	if len(points) <= mostPoints {
		return points
	}
	size := (2*len(points) + mostPoints - 1) / mostPoints
	out := make([][2]float64, 0, mostPoints)
	for part := range slices.Chunk(points, size) {
		low, high := 0, 0
		for i, p := range part {
			if p[1] < part[low][1] {
				low = i
			}
			if p[1] > part[high][1] {
				high = i
			}
		}
		out = append(out, part[min(low, high)])
		if low != high {
			out = append(out, part[max(low, high)])
		}
	}
	return out
}

// thousandths are seconds to the millisecond: more digits would only make the page longer.
func thousandths(d time.Duration) float64 { return float64(d.Milliseconds()) / 1e3 }

// seconds is the curve of each device by the second.
func (c *chartRun) seconds(run *replay.Run, begin time.Time) {
	byDevice := map[string]int{}
	for _, s := range run.Power.Samples {
		if s.MeanMw == (meter.Int{}) {
			continue
		}
		i, ok := byDevice[s.Device]
		if !ok {
			i = len(c.Power)
			byDevice[s.Device] = i
			c.Power = append(c.Power, curve{Device: s.Device})
		}
		c.Power[i].Points = append(c.Power[i].Points, [2]float64{s.At.Sub(begin).Seconds(), float64(s.MeanMw.V) / 1e3})
	}
}
