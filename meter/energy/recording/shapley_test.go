package recording

import (
	"math"
	"testing"

	"wattline/meter/energy"
)

// game is a recording of all coalitions of A, B and C, two rounds, each a second long: A and B cost 100 and
// 200 J and save 60 J when they run together, C costs 50 J in any company.
func game() (*Device, *Traffic, []energy.Result) {
	const idle = 100.0 // W
	cost := map[rune]float64{'A': 100, 'B': 200, 'C': 50}
	d, t := &Device{}, &Traffic{}
	var results []energy.Result
	now, joules := int64(0), 0.0
	draw := func(seconds, watts float64) {
		for range int(math.Round(seconds * 50)) {
			joules += watts / 50
			now += 20e6
			d.Readings = append(d.Readings, Reading{Before: now, After: now, EnergyUJ: int64(joules * 1e6), HasEnergy: true})
		}
	}
	mark := func(name string) { t.Marks = append(t.Marks, Mark{name, now}) }
	draw(1, idle)
	for _, round := range []string{"/0", "/1"} {
		for _, name := range []string{"A", "B", "C", "AB", "AC", "BC", "ABC"} {
			var whole float64
			for _, who := range name {
				whole += cost[who]
				t.Requests = append(t.Requests, Request{Tag: name + round, Who: string(who), Send: now + 16e8, End: now + 26e8})
				results = append(results, energy.Result{ActiveUJ: int64(cost[who] * 1e6), TimeUJ: 1, TokenUJ: 2})
			}
			if len(name) > 1 && name[:2] == "AB" {
				whole -= 60
			}
			mark(name + round + ":pre")
			draw(1.6, idle)
			mark(name + round)
			draw(1, idle+whole)
			mark(name + round + ":post")
			draw(1.2, idle)
		}
	}
	mark("end")
	return d, t, results
}

func TestCoalitionsKnownGame(t *testing.T) {
	shares, err := Coalitions(game())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{"ABA": 70, "ABB": 170, "ACA": 100, "ACC": 50, "BCB": 200, "BCC": 50, "ABCA": 70, "ABCB": 170, "ABCC": 50}
	if len(shares) != len(want) {
		t.Fatalf("%d shares, want %d", len(shares), len(want))
	}
	for _, s := range shares {
		if w := want[s.Coalition+s.Who]; math.Abs(s.True-w) > 0.02*w || s.Error > 0.01*w {
			t.Errorf("%s in %s: %.2f ± %.2f J, want %.0f", s.Who, s.Coalition, s.True, s.Error, w)
		}
	}
	// The results above charge everybody what he costs alone: A's and B's shares of AB are exceeded.
	if bad := Exceeding(shares); len(bad) < 8 {
		t.Errorf("only %q is found to be too far off", bad)
	}
}

func TestIncompleteCoalitions(t *testing.T) {
	d, traffic, results := game()
	traffic.Marks = traffic.Marks[3:] // without A alone in round 0
	if _, err := Coalitions(d, traffic, results); err == nil {
		t.Error("a coalition is missing and nobody says so")
	}
	if _, err := Coalitions(&Device{}, traffic, results); err == nil {
		t.Error("there is no counter and nobody says so")
	}
}
