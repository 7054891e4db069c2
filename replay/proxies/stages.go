package proxies

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/google/pprof/profile"
)

// Stage is a part of what wattline did, with its share of the CPU.
type Stage struct {
	Name  string `json:"name"`
	Share Num    `json:"share"`
	CPU   Num    `json:"cpu_us"` // share x the CPU time of an event or a request
}

// stageOf says to which stage a function belongs, by the beginning of its name; the innermost function that
// is listed decides, so a system call counts where it was made.
//
//nolint:gochecknoglobals // a table
var stageOf = []struct{ stage, functions string }{
	{"accept", "wattline/proxy.(*listener) github.com/valyala/fasthttp.acceptConn wattline/proxy.(*epollWatcher)"},
	{"parse the request", "wattline/proxy.(*clientConn).readHead wattline/proxy.(*clientConn).fill wattline/proxy.(*head) wattline/proxy.newExchange wattline/proxy.(*Server).identify wattline/meter.(*Identify)"},
	{"send it upstream", "wattline/proxy.(*pool) wattline/proxy.(*exchange).forward wattline/proxy.(*exchange).sendHead wattline/proxy.(*exchange).writeUp"},
	{"relay the reply", "wattline/proxy.(*exchange).receive wattline/proxy.(*exchange).relay wattline/proxy.(*exchange).writeAt wattline/proxy.(*exchange).readReplyHead wattline/proxy.(*exchange).replyHead wattline/proxy.(*clientConn).send"},
	{"ledger", "wattline/meter/energy wattline/sink/attribution main.(*watched) main.(*power) wattline/proxy/llama"},
	{"meter", "wattline/meter."},
	{"sampler", "wattline/gpu"},
	{"store", "wattline/sink/store modernc.org database/sql"},
	{"queue", "wattline/sink.(*Queue)"},
	{"spans and metrics", "wattline/sink/otlp wattline/sink/metrics go.opentelemetry.io main.(*telemetry)"},
	{"garbage collection", "runtime.gcBgMarkWorker runtime.bgsweep runtime.bgscavenge runtime.gcAssistAlloc"},
	{"wait for sockets", "runtime.schedule runtime.findRunnable runtime.park_m runtime.mcall runtime.goexit0"},
	{"fasthttp around it", "github.com/valyala/fasthttp"},
}

const otherStage = "other"

// stages divides a CPU profile; cpu is what its shares are of.
func stages(r io.Reader, cpu Num) ([]Stage, error) {
	p, err := profile.Parse(r)
	if err != nil {
		return nil, fmt.Errorf("bench: profile: %w", err)
	}
	sums, total := map[string]int64{}, int64(0)
	for _, s := range p.Sample {
		v := s.Value[len(s.Value)-1] // nanoseconds
		sums[stageOfStack(s)] += v
		total += v
	}
	var out []Stage
	for name, v := range sums {
		share := Num(float64(v) / float64(total))
		out = append(out, Stage{name, share, share * cpu})
	}
	slices.SortFunc(out, func(a, b Stage) int { return order(a.Name) - order(b.Name) })
	return out, nil
}

// order is a stage's place in the table.
func order(name string) int {
	for i, s := range stageOf {
		if s.stage == name {
			return i
		}
	}
	return len(stageOf)
}

func stageOfStack(s *profile.Sample) string {
	for _, loc := range s.Location {
		for _, line := range loc.Line {
			for _, st := range stageOf {
				for f := range strings.FieldsSeq(st.functions) {
					if strings.HasPrefix(line.Function.Name, f) {
						return st.stage
					}
				}
			}
		}
	}
	return otherStage
}

// markdownStages writes the stages of those sections that have them.
func (r *Report) markdownStages(b *strings.Builder) {
	var with []*Section
	names := []string{}
	for _, s := range r.Sections {
		if len(s.Stages) == 0 {
			continue
		}
		with = append(with, s)
		for _, st := range s.Stages {
			if !slices.Contains(names, st.Name) {
				names = append(names, st.Name)
			}
		}
	}
	if len(with) == 0 {
		return
	}
	slices.SortFunc(names, func(x, y string) int { return order(x) - order(y) })
	b.WriteString("\n### Where wattline's CPU goes (us; shares of a CPU profile of the last round x CPU an event or request)\n\n| stage |")
	for _, s := range with {
		what := " an event, "
		if s.Short {
			what = " a request, "
		}
		b.WriteString(what + s.Title + " |")
	}
	b.WriteString("\n|---|" + strings.Repeat("---:|", len(with)) + "\n")
	for _, n := range names {
		b.WriteString("| " + n + " |")
		for _, s := range with {
			cell := " - |"
			for _, st := range s.Stages {
				if st.Name == n {
					cell = " " + figure(st.CPU, 2) + " |"
				}
			}
			b.WriteString(cell)
		}
		b.WriteString("\n")
	}
}
