package recording

import (
	"math"
	"strings"
	"testing"

	"wattline/meter/energy"
)

// A and B of the known game cost 70 and 170 J together: each method is as far off as its definition says.
func TestRulerKnownGame(t *testing.T) {
	d, traffic, results := game()
	truth, err := CoalitionTruth(d, traffic)
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewRuler(d, traffic, truth)
	if err != nil {
		t.Fatal(err)
	}
	at := func(tag, who string) int {
		for i, q := range traffic.Requests {
			if q.Tag == tag && q.Who == who {
				return i
			}
		}
		t.Fatal(tag, who)
		return 0
	}
	a, b, c := at("AB/0", "A"), at("AB/0", "B"), at("ABC/1", "C")
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 0.02*want {
			t.Errorf("%s: %.1f J, want %.0f", what, got, want)
		}
	}
	for method, want := range map[string][3]float64{
		"phase": {100, 200, 50}, "run total": {120, 120, 290. / 3}, "by time": {120, 120, 290. / 3}, "by token": {120, 120, 290. / 3},
		"whole GPU": {240, 240, 290}, "utilisation split": {120, 120, 290. / 3},
	} {
		got := r.Answers(method, results)
		near(method+" A", got[a].Joules, want[0])
		near(method+" B", got[b].Joules, want[1])
		near(method+" C", got[c].Joules, want[2])
		s := r.Score(method, "", got)
		if s.Shares != 9 || math.IsNaN(s.Coverage) != (method != "phase") {
			t.Errorf("%s: %+v", method, s)
		}
		if conserving := method != "phase" && method != "whole GPU"; conserving && math.Abs(s.Conservation-1) > 1e-6 {
			t.Errorf("%s gives %.3f of what was drawn", method, s.Conservation)
		}
	}
	exact := map[int]Answer{}
	for _, k := range truth {
		exact[k.Request] = Answer{Joules: k.Joules * 1.1, Sigma: 0.06 * k.Joules, HasSigma: true}
	}
	if s := r.Score("tool", "", exact); math.Abs(s.RMS-0.1) > 1e-9 || math.Abs(s.Worst-0.1) > 1e-9 || s.Coverage != 1 || math.Abs(s.Conservation-1.1) > 0.02 {
		t.Errorf("10 %% too much everywhere: %+v", s)
	}
	for i, x := range exact {
		exact[i] = Answer{Joules: x.Joules, Sigma: 0.04 * x.Joules, HasSigma: true}
	}
	if s := r.Score("tool", "", exact); s.Coverage > 0.1 {
		t.Errorf("an error of 2.5 sigma is covered: %+v", s)
	}
	totals := map[int]Answer{a: {Joules: 170}, b: {Joules: 270}}
	near("total less half of 100 W for a second", r.Active(totals)[a].Joules, 120)
}

func TestRulerFiles(t *testing.T) {
	traffic := &Traffic{Requests: []Request{{ID: "one"}, {ID: "two"}}}
	truth, err := ReadTruth(strings.NewReader("request,joules,run,idle_w\n0,12.5,a,100\ntwo,7,a,100\n"), traffic)
	if err != nil || len(truth) != 2 || truth[0].Joules != 12.5 || truth[1].Request != 1 || truth[1].Share == truth[0].Share {
		t.Fatal(truth, err)
	}
	var again strings.Builder
	if err := WriteTruth(&again, truth); err != nil {
		t.Fatal(err)
	}
	if back, err := ReadTruth(strings.NewReader(again.String()), traffic); err != nil || back[1] != truth[1] {
		t.Error(back, err)
	}
	for text, want := range map[string]string{
		"":                                                "first line",
		"request,joules,run\n":                            `no column "idle_w"`,
		"request,joules,run,idle_w\n":                     "names no request",
		"request,joules,run,idle_w\n2,1,a,1\n":            `line 2: there is no request "2"`,
		"request,joules,run,idle_w\n0,x,a,1\n":            `"x", which is no number`,
		"request,joules,run,idle_w\n0,NaN,a,1\n":          "no number",
		"request,joules,run,idle_w\n0,1,a,1\none,1,a,1\n": "twice",
	} {
		if _, err := ReadTruth(strings.NewReader(text), traffic); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if a, total, err := ReadAnswers(strings.NewReader("request,total_joules,sigma\n0,10,1\n1,,\n"), traffic); err != nil || !total || len(a) != 1 || a[0] != (Answer{10, 1, true}) {
		t.Error(a, total, err)
	}
	if _, _, err := ReadAnswers(strings.NewReader("request,energy\n0,10\n"), traffic); err == nil {
		t.Error("a file without joules is taken")
	}
}

// A device without a counter is scored by the integral of its power.
func TestRulerWithoutCounter(t *testing.T) {
	d := &Device{}
	for at := int64(1e9); at <= 20e9; at += 1e8 {
		d.Readings = append(d.Readings, Reading{After: at, AverageMW: 200_000, HasAverage: true})
	}
	traffic := &Traffic{Requests: []Request{{Send: 5e9, End: 7e9}}}
	r, err := NewRuler(d, traffic, []True{{Request: 0, Run: "a", Share: "0", Joules: 200, IdleW: 100}})
	if err != nil {
		t.Fatal(err)
	}
	if s := r.Score("whole GPU", "", r.Answers("whole GPU", []energy.Result{{}})); math.Abs(s.RMS) > 0.01 {
		t.Errorf("%+v", s)
	}
	if _, err := NewRuler(&Device{}, traffic, nil); err == nil {
		t.Error("nothing was recorded, and nobody says so")
	}
}
