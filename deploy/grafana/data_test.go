package grafana_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"wattline/meter"
	"wattline/sink"
)

// The panels are asked about an hour, in intervals of five minutes.
const interval = 300

func from() time.Time { return time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC) }

// expand replaces what Grafana and its ClickHouse plugin replace before a query is sent.
func expand(query string, chosen map[string][]string) string {
	query = regexp.MustCompile(`\$\{(\w+):sqlstring\}`).ReplaceAllStringFunc(query, func(v string) string {
		values := chosen[v[2:strings.Index(v, ":")]]
		for i := range values {
			values[i] = "'" + strings.ReplaceAll(strings.Trim(values[i], "'"), "'", "''") + "'"
		}
		return strings.Join(values, ",")
	})
	first, last := from(), from().Add(time.Hour)
	query = regexp.MustCompile(`\$__timeFilter\((\w+)\)`).ReplaceAllString(query, fmt.Sprintf("$1 >= toDateTime(%d) AND $1 <= toDateTime(%d)", first.Unix(), last.Unix()))
	query = regexp.MustCompile(`\$__timeInterval\((\w+)\)`).ReplaceAllString(query, fmt.Sprintf("toStartOfInterval(toDateTime($1), INTERVAL %d second)", interval))
	return strings.NewReplacer(
		"$__interval_s", strconv.Itoa(interval), "$__interval_ms", strconv.Itoa(interval*1000),
		"$__from", strconv.FormatInt(first.UnixMilli(), 10), "$__to", strconv.FormatInt(last.UnixMilli(), 10),
	).Replace(query)
}

// allChosen are the values of the variables in knownRows.
func allChosen() map[string][]string {
	return map[string][]string{
		"instance": {"host"}, "route": {"-"}, "model": {"large", "small"}, "agent": {"chat", "coder", "curl"}, "device": {"GPU-0"},
	}
}

// knownRows are few enough to answer every panel's question by hand.
func knownRows() *sink.Rows {
	some, ms := meter.Some, func(v int64) meter.Int { return meter.Some(v * 1000) }
	rows := &sink.Rows{}
	add := func(rec meter.Record) {
		rec.Instance, rec.Method, rec.Path, rec.Dialect = "host", "POST", "/v1/chat/completions", meter.DialectChat
		rec.TraceID = "trace-of-" + rec.ID
		rec.PricePerKWhMicro, rec.GCO2PerKWhMilli = some(300_000), some(400_000) // 0.30 a kWh, 400 g
		rows.Requests = append(rows.Requests, &rec)
	}
	coder := func(id string, at time.Time, ttft int64) {
		add(meter.Record{
			ID: id, StartedAt: at, Agent: "coder", Model: "large", Session: "s1", Outcome: meter.OK, Status: some(200), Stream: some(1),
			PromptTokens: some(1000), CachedTokens: some(0), OutputTokens: some(100), MeanConcurrency: some(1000),
			QueueUs: ms(10), PrefillUs: ms(200), UpstreamTTFTUs: ms(210), TTFTUs: ms(ttft), DecodeUs: ms(990), DurationUs: ms(ttft + 1000), ITLP50Us: ms(10), ITLP99Us: ms(12),
			GPUUj: some(200e6), GPUActiveUj: some(150e6), GPUPrefillUj: some(50e6), GPUDecodeUj: some(100e6), GPUIdleUj: some(50e6), GPUSigmaUj: some(3e6), EnergyQuality: meter.EnergyMeasured,
		})
	}
	coder("before", from().Add(-time.Hour), 99_999) // outside the hour that is asked about
	for i := range int64(4) {
		coder(fmt.Sprintf("coder-%d", i), from().Add(time.Duration(i)*10*time.Second), 215+10*i)
	}
	for i := range int64(2) {
		add(meter.Record{
			ID: fmt.Sprintf("chat-%d", i), StartedAt: from().Add(10*time.Minute + time.Duration(i)*time.Second), Agent: "chat", Model: "small", Session: "s2", Outcome: meter.OK, Status: some(200), Stream: some(1),
			PromptTokens: some(4000), CachedTokens: some(3000), OutputTokens: some(200), MeanConcurrency: some(2000),
			QueueUs: ms(100), PrefillUs: ms(400), UpstreamTTFTUs: ms(500), TTFTUs: ms(510 + 20*i), DecodeUs: ms(3980), DurationUs: ms(4500 + i), ITLP50Us: ms(20), ITLP99Us: ms(40),
			GPUUj: some(100e6), GPUActiveUj: some(80e6), GPUPrefillUj: some(20e6), GPUDecodeUj: some(60e6), GPUIdleUj: some(20e6), GPUSigmaUj: some(4e6), EnergyQuality: meter.EnergyShared,
		})
	}
	late := from().Add(20 * time.Minute)
	add(meter.Record{
		ID: "gone", StartedAt: late, Agent: "chat", Model: "small", Outcome: meter.Cancelled, Status: some(200), Stream: some(1), MeanConcurrency: some(1000), DurationUs: ms(300),
		GPUUj: some(30e6), GPUActiveUj: some(30e6), GPUPrefillUj: some(30e6), GPUDecodeUj: some(0), GPUIdleUj: some(0), GPUSigmaUj: some(1e6), EnergyQuality: meter.EnergyEstimated,
	})
	add(meter.Record{
		ID: "failed", StartedAt: late.Add(time.Second), Agent: "coder", Model: "large", Outcome: meter.UpstreamError, Status: some(500), Error: "out of memory", MeanConcurrency: some(1000), EnergyQuality: meter.EnergyUnavailable,
	})
	add(meter.Record{
		ID: "tiny", StartedAt: late.Add(2 * time.Second), Agent: "curl", Model: "small", Outcome: meter.OK, Status: some(200), Stream: some(0), MeanConcurrency: some(1000),
		PromptTokens: some(10), CachedTokens: some(0), OutputTokens: some(1), PrefillUs: ms(5), DecodeUs: ms(3), DurationUs: ms(20),
		GPUEstimateUj: some(500_000), GPUSigmaUj: some(2e6), EnergyQuality: meter.EnergyBelowResolution,
	})
	rows.Power, rows.Ledger = knownDevice()
	return rows
}

func knownDevice() (power []*sink.Power, ledger []*sink.Ledger) {
	some := meter.Some
	for _, p := range []struct {
		after            time.Duration
		joules, throttle int64
	}{{-time.Hour, 9999, 1}, {0, 300, 0}, {time.Second, 300, 0}, {10 * time.Minute, 400, 1}, {10*time.Minute + time.Second, 400, 0}} {
		power = append(power, &sink.Power{
			At: from().Add(p.after), Instance: "host", Device: "GPU-0", SpanUs: some(1e6), EnergyUj: some(p.joules * 1e6), ThrottledUs: some(p.throttle * 1e6), TempC: some(60), LimitMw: some(450_000),
		})
	}
	for _, l := range []struct {
		after                        time.Duration
		active, held, idle, residual int64
	}{{-time.Hour, 9999, 0, 0, 0}, {0, 600, 200, 150, 50}, {10 * time.Minute, 100, 50, 350, 0}} {
		ledger = append(ledger, &sink.Ledger{
			At: from().Add(l.after), Instance: "host", Device: "GPU-0", SpanUs: some(1e6), CounterUj: some((l.active + l.held + l.idle + l.residual) * 1e6),
			RequestsActiveUj: some(l.active * 1e6), RequestsIdleUj: some(l.held * 1e6), PoolsUj: some(0), IdleUj: some(l.idle * 1e6), ResidualUj: some(l.residual * 1e6),
		})
	}
	return power, ledger
}

// sqlAnswers are the right answers on knownRows.
func sqlAnswers() map[string][]string {
	return map[string][]string{
		"How many joules does a token take?":                 {"1.24906"},   // 1000.5 J for 801 tokens
		"How much energy went into requests?":                {"0.28625"},   // 1030.5 J
		"What share was drawn for nobody?":                   {"0.333333"},  // 500 of 1500 J
		"What share went into requests given up?":            {"0.0291121"}, // 30 of 1030.5 J
		"How long do 95 % wait for the first token at most?": {"525"},
		"How fast does a reply come?":                        {"83.3333"},  // 4 of 100, 2 of 50
		"What share of the prompts came from the cache?":     {"0.499584"}, // 6000 of 12010
		"What share of the requests was not ok?":             {"0.222222"}, // 2 of 9
		"How long is the wait for the first token?":          {"10:00:00 | 230 | 243.5", "10:10:00 | 520 | 529"},
		"Where does the time of a request go?":               {"10:00:00 | 10 | 200 | 990", "10:10:00 | 100 | 400 | 3980", "10:20:00 | null | 5 | 3"},
		"Do tokens come evenly?":                             {"10:00:00 | 10 | 12", "10:10:00 | 20 | 40"},
		"What does a long prompt cost the first token?":      {"1: under 1k | 4 | 0 | 230 | 245", "2: 1k to 8k | 2 | 0.75 | 520 | 530"},
		"Which model answers fastest?":                       {"large | 4 | 230 | 100", "small | 3 | 520 | 50"},
		"Which agent burns the power?":                       {"coder | 0.222222", "chat | 0.0638889", "curl | 0.000138889"}, // 800, 230, 0.5 J
		"Does batching pay?":                                 {"1 | 5 | 1.99626 | 100", "2 | 2 | 0.5 | 50"},                  // 800.5 J for 401 tokens, 200 J for 400
		"What does a token cost?":                            {"10:00:00 | 2", "10:10:00 | 0.5", "10:20:00 | 0.5"},
		"Which model gives the most tokens for a joule?":     {"small | 3 | 401 | 2", "large | 4 | 400 | 0.5"},
		"Does more power give more tokens?":                  {"10:00:00 | 2", "10:10:00 | 2.66667"},
		"Does more power give more tokens? (2)":              {"10:00:00 | 1.33333", "10:10:00 | 1.33333", "10:20:00 | 0.00333333"},
		"How much is drawn for nobody?":                      {"10:00:00 | 0.15", "10:10:00 | 0.7"},
		"Where does every joule go?":                         {"10:00:00 | 600 | 200 | 0 | 150 | 50", "10:10:00 | 100 | 50 | 0 | 350 | 0"},
		"What did it cost?":                                  {"0.000286111 | 8.58333e-05 | 0.114444"}, // 1030 J
		"How far can the joules be trusted?":                 {"measured | 4 | 800 | 6", "shared | 2 | 200 | 5.65685", "below_resolution | 1 | 0.5 | 2", "estimated | 1 | 30 | 1", "unavailable | 1 | null | null"},
		"Is the card throttling?":                            {"10:00:00 | GPU-0 | 0", "10:10:00 | GPU-0 | 0.5"},
		"What went wrong or was given up?":                   {"cancelled | 200 | - | 1 | 30", "upstream_error | 500 | out of memory | 1 | null"},
		"Which sessions are the heaviest?":                   {"s1 | coder | 4 | 4000 | 400 | 0.222222", "s2 | chat | 2 | 8000 | 400 | 0.0555556", "- | curl | 1 | 10 | 1 | 0.000138889"},
		"Which requests cost the most energy?": {
			"10:00:00 | large | coder | 1000 | 0 | 100 | 200 | 3 | measured | coder-0 | trace-of-coder-0", "10:00:10 | large | coder | 1000 | 0 | 100 | 200 | 3 | measured | coder-1 | trace-of-coder-1",
			"10:00:20 | large | coder | 1000 | 0 | 100 | 200 | 3 | measured | coder-2 | trace-of-coder-2", "10:00:30 | large | coder | 1000 | 0 | 100 | 200 | 3 | measured | coder-3 | trace-of-coder-3",
			"10:10:00 | small | chat | 4000 | 3000 | 200 | 100 | 4 | shared | chat-0 | trace-of-chat-0", "10:10:01 | small | chat | 4000 | 3000 | 200 | 100 | 4 | shared | chat-1 | trace-of-chat-1",
			"10:20:00 | small | chat | null | null | null | 30 | 1 | estimated | gone | trace-of-gone",
		},
		"Which requests took longest, and where was the time?": {
			"10:10:01 | small | chat | 4501 | 100 | 400 | 3980 | 100 | chat-1 | trace-of-chat-1", "10:10:00 | small | chat | 4500 | 100 | 400 | 3980 | 100 | chat-0 | trace-of-chat-0",
			"10:00:30 | large | coder | 1245 | 10 | 200 | 990 | 200 | coder-3 | trace-of-coder-3", "10:00:20 | large | coder | 1235 | 10 | 200 | 990 | 200 | coder-2 | trace-of-coder-2",
			"10:00:10 | large | coder | 1225 | 10 | 200 | 990 | 200 | coder-1 | trace-of-coder-1", "10:00:00 | large | coder | 1215 | 10 | 200 | 990 | 200 | coder-0 | trace-of-coder-0",
			"10:20:00 | small | chat | 300 | null | null | null | 30 | gone | trace-of-gone", "10:20:02 | small | curl | 20 | null | 5 | 3 | null | tiny | trace-of-tiny",
		},
	}
}
