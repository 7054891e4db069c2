package report

import "wattline/replay"

// The benchmarking guide's numbers as data. Where it contradicts itself, this file decides, and
// replay/GUIDE.md ("Where the guide contradicts itself") says so in words.

// Figure is a quantity that the guide judges.
type Figure string

// The figures.
const (
	Throughput Figure = "throughput"
	Efficiency Figure = "efficiency"
	Latency    Figure = "latency"
	VRAM       Figure = "vram"
)

// figureFacts say how a figure is computed and printed.
type figureFacts struct {
	name, unit, formula string
	lowerIsBetter       bool
}

//nolint:gochecknoglobals // a constant table
var figures = map[Figure]figureFacts{
	Throughput: {"Throughput", "tokens/s", "output tokens / (last output - start)", false},
	Efficiency: {"Energy efficiency", "tokens/W", "output tokens / (slot joules / (end - slot start))", false},
	Latency:    {"Latency", "ms", "first output - start", true},
	VRAM:       {"VRAM", "GB", "highest device memory in use, 1 GB = 10^9 bytes", true},
}

// Band is one line of an "Interpretation" of the guide: From <= value < To, Word in the guide's words. A
// value on a border between two bands belongs to the better one where the guide writes "> 200" for the
// best (then 200 is not in it) and to the band that names it.
type Band struct {
	From, To replay.Num // absent: open
	Word     string
}

func band(from, to float64, word string) Band {
	b := Band{Word: word}
	if from > 0 {
		b.From = replay.Some(from)
	}
	if to > 0 {
		b.To = replay.Some(to)
	}
	return b
}

// bands are the guide's "Interpretation" blocks, best first for throughput and efficiency. The first band
// that holds the value counts; upTo says whether To itself is inside.
//
//nolint:gochecknoglobals // constant tables
var bands = map[Figure][]Band{
	Throughput: {band(200, 0, "Excellent performance"), band(150, 200, "Good performance"), band(100, 150, "Acceptable"), band(0, 100, "Needs optimization")},
	Efficiency: {band(4, 0, "Excellent energy efficiency"), band(3, 4, "Good efficiency"), band(0, 3, "Needs power optimization")},
	Latency:    {band(0, 200, "Excellent response time"), band(200, 500, "Acceptable response time"), band(500, 0, "Slow response time")},
	VRAM: {
		band(0, 8, "Insufficient for full model"), band(8, 10, "Minimum requirements"), band(10, 12, "Optimal range"),
		band(12, 14, "Above the optimal range (the guide's peak with large batches)"), band(14, 0, "Memory optimization needed"),
	},
}

// Target is a line of the guide's table "Performance Targets".
type Target struct {
	Name                               string
	TokensPerSecond, TokensPerWatt, Ms float64 // more than, more than, less than
}

//nolint:gochecknoglobals // a constant table, hardest last
var targets = []Target{
	{"Minimum", 100, 2, 500}, {"Good", 150, 3, 300}, {"Excellent", 200, 4, 200}, {"Optimal", 250, 5, 150},
}

// Scenario is one of the guide's "Performance Scenarios".
type Scenario struct {
	Name, Status, Expected string
	Advice                 []string
	holds                  func(s situation) bool
}

// situation holds the facts that the scenarios look at. Words like "low VRAM" have no numbers in the guide; ours are
// constants below.
type situation struct {
	tokensPerSecond, tokensPerWatt, vramGB, tempC replay.Num
}

const (
	lowVRAMGB = 12.0 // up to the end of the guide's "optimal range"
	hotC      = 80.0 // the guide has no number; cards slow down a little above
)

func above(n replay.Num, limit float64) bool   { return n.Valid && n.V > limit }
func atLeast(n replay.Num, limit float64) bool { return n.Valid && n.V >= limit }
func below(n replay.Num, limit float64) bool   { return n.Valid && n.V < limit }

//nolint:gochecknoglobals // a constant table
var scenarios = []Scenario{
	{"Scenario 1: High Throughput, Low VRAM", "Optimal", "150-300+ tokens/sec", []string{"Use default settings"},
		func(s situation) bool {
			return atLeast(s.tokensPerSecond, 150) && s.vramGB.Valid && !above(s.vramGB, lowVRAMGB)
		}},
	{"Scenario 2: Medium Performance, High VRAM", "Good", "100-150 tokens/sec", []string{"Consider batch size optimization"},
		func(s situation) bool {
			return atLeast(s.tokensPerSecond, 100) && below(s.tokensPerSecond, 150) && above(s.vramGB, lowVRAMGB)
		}},
	{"Scenario 3: Low Performance, Low VRAM", "Needs optimization", "< 100 tokens/sec", []string{"Reduce context size", "Lower batch sizes", "Check GPU utilization"},
		func(s situation) bool {
			return below(s.tokensPerSecond, 100) && s.vramGB.Valid && !above(s.vramGB, lowVRAMGB)
		}},
	{"Scenario 4: Good Efficiency, High Temperature", "Needs cooling", "3-5+ tokens/W", []string{"Improve ventilation", "Lower GPU utilization", "Reduce batch sizes"},
		func(s situation) bool { return atLeast(s.tokensPerWatt, 3) && atLeast(s.tempC, hotC) }},
}

// Reference is one of the guide's "Reference Performance" cards, all of GLM-4.7 Flash Q4.
type Reference struct {
	Card                                      string
	TokensPerSecond, TokensPerWatt, LatencyMs [2]float64
}

//nolint:gochecknoglobals // a constant table
var references = []Reference{
	{"RTX 3060", [2]float64{100, 180}, [2]float64{2.5, 3.5}, [2]float64{300, 500}},
	{"RTX 4090", [2]float64{250, 400}, [2]float64{4, 6}, [2]float64{100, 200}},
}

// Typical holds the guide's "High Performance" of GLM-4.7 Flash and its "Optimized settings".
type Typical struct {
	Figure                  Figure
	High, Optimized         [2]float64
	HighText, OptimizedText string
}

//nolint:gochecknoglobals // a constant table
var typicals = []Typical{
	{Throughput, [2]float64{100, 300}, [2]float64{200, 400}, "100-300+ tokens/sec", "200-400+ tokens/sec"},
	{Efficiency, [2]float64{3, 5}, [2]float64{4, 6}, "3-5+ tokens/W", "4-6+ tokens/W"},
	{Latency, [2]float64{100, 500}, [2]float64{50, 200}, "100-500ms", "50-200ms"},
}
