package main

import (
	"strings"
	"testing"
	"time"

	"wattline/meter"
	"wattline/sink"
)

// TestSession: a session by its stored name, the latest one, and one that there is not.
func TestSession(t *testing.T) {
	at := time.Now()
	a, b, c := measured("0199-aaaa", at.Add(-2*time.Minute)), measured("0199-bbbb", at.Add(-time.Minute)), measured("0199-cccc", at)
	a.Session, b.Session, c.Session = "one", "one", "two"
	b.Details = &meter.Details{SessionSource: meter.SessionInferred}
	own := measured("0199-dddd", at.Add(time.Second))
	own.Session, own.Agent = "a run of replay", sink.ReplayAgent
	db := storeOf(t, sink.Rows{Requests: []*meter.Record{a, b, c, own}})
	out, _ := output(t, 0, "session", "one", "--store", db, "--currency", "EUR")
	for _, want := range []string{"session   one (no client named it", "agent     curl, model tiny", "turns     2, of 2 requests 0 failed", "(1m0s)", "2000 in, 20 % of them cached; 202 out", "112 mWh (404 ± 4.24 J), known for 2 of 2", "EUR", "slowest 352 ms"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if out, _ := output(t, 0, "session", "last", "--store", db); !strings.Contains(out, "session   two\n") {
		t.Errorf("the latest session: %s", out)
	}
	if _, errs := output(t, exitFailed, "session", "three", "--store", db); !strings.Contains(errs, "wattline usage --by session") {
		t.Errorf("no such session: %s", errs)
	}
}

// TestUsagePeriods: several keys, yesterday, and days of the local zone.
func TestUsagePeriods(t *testing.T) {
	midnight := time.Now().Truncate(24 * time.Hour)
	a, b := measured("a", midnight.Add(-time.Hour)), measured("b", midnight.Add(time.Second))
	own := measured("c", midnight.Add(-2*time.Hour))
	own.Agent = sink.ReplayAgent
	db := storeOf(t, sink.Rows{Requests: []*meter.Record{a, b, own}})
	out, _ := output(t, 0, "usage", "--yesterday", "--utc", "--by", "agent,day", "--store", db)
	yesterday := midnight.Add(-time.Hour).UTC().Format(time.DateOnly)
	if !strings.Contains(out, "curl   "+yesterday+"  ") && !strings.Contains(out, "curl      "+yesterday) || strings.Contains(out, sink.ReplayAgent) || !strings.Contains(out, "known for 1 of 1 requests") || !strings.Contains(out, "1 other calls") {
		t.Errorf("yesterday:\n%s", out)
	}
	if _, errs := output(t, exitUsage, "usage", "--by", "agent,colour", "--store", db); !strings.Contains(errs, "one or more of agent, session") {
		t.Errorf("%s", errs)
	}
	if _, errs := output(t, exitUsage, "usage", "--since", "today", "--until", "yesterday", "--store", db); !strings.Contains(errs, "is not after") {
		t.Errorf("%s", errs)
	}
}
