package metrics

import (
	"strings"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"

	"wattline/meter"
	"wattline/sink/semconv"
)

// MaxLabels is how many label keys can be attributes.
const MaxLabels = 4

// key names a request's series.
type key struct {
	route, operation, model string
	labels                  [MaxLabels]string
}

// series are a key's attributes, made once: making a set costs more than recording with it.
type series struct {
	plain    *options
	genAI    *options
	input    *options // gen_ai.token.type
	output   *options
	outcomes map[meter.Outcome]*options
	failed   map[meter.Outcome]*options // genAI and error.type
	values   map[string]*options        // plain and one of the fixed values below
}

// Fixed values of attributes, beside a request's own.
const (
	statP50, statP99, statMax                               = "p50", "p99", "max"
	phaseLoad, phaseQueue, phasePrefill, phaseDecode        = "load", "queue", "prefill", "decode"
	phaseIdle, phaseUndivided                               = "idle", "undivided"
	tokensPrompt, tokensCached, tokensOutput, tokensThought = "prompt", "cached", "output", "reasoning"
)

// fixed lists the values with the attribute that each belongs to.
func fixed() map[string]string {
	return map[string]string{
		statP50: semconv.Statistic, statP99: semconv.Statistic, statMax: semconv.Statistic,
		phaseLoad: semconv.Phase, phaseQueue: semconv.Phase, phasePrefill: semconv.Phase, phaseDecode: semconv.Phase, phaseIdle: semconv.Phase, phaseUndivided: semconv.Phase,
		tokensPrompt: semconv.TokenKind, tokensCached: semconv.TokenKind, tokensOutput: semconv.TokenKind, tokensThought: semconv.TokenKind,
	}
}

func newSeries(k key, labels []string) *series {
	var base []attribute.KeyValue
	for _, kv := range []struct{ name, value string }{
		{semconv.Route, k.route}, {semconv.GenAIOperationName, k.operation}, {semconv.GenAIResponseModel, k.model},
	} {
		if kv.value != "" {
			base = append(base, attribute.String(kv.name, kv.value))
		}
	}
	for i, l := range labels {
		if k.labels[i] != "" {
			base = append(base, attribute.String(semconv.LabelPrefix+l, k.labels[i]))
		}
	}
	with := func(more ...attribute.KeyValue) *options {
		return newOptions(append(append([]attribute.KeyValue(nil), base...), more...)...)
	}
	provider := attribute.String(semconv.GenAIProviderName, semconv.Provider)
	s := &series{
		plain: with(), genAI: with(provider),
		input:    with(provider, attribute.String(semconv.GenAITokenType, semconv.TokenInput)),
		output:   with(provider, attribute.String(semconv.GenAITokenType, semconv.TokenOutput)),
		outcomes: map[meter.Outcome]*options{}, failed: map[meter.Outcome]*options{}, values: map[string]*options{},
	}
	for _, o := range []meter.Outcome{meter.OK, meter.Cancelled, meter.Truncated, meter.UpstreamError, meter.Rejected} {
		s.outcomes[o] = with(attribute.String(semconv.Outcome, string(o)))
		s.failed[o] = with(provider, attribute.String(semconv.ErrorType, string(o)))
	}
	s.failed[meter.OK] = s.genAI
	for value, name := range fixed() {
		s.values[value] = with(attribute.String(name, value))
	}
	return s
}

// of returns an outcome's set, or the plain one if the outcome is not known.
func (s *series) of(sets map[meter.Outcome]*options, o meter.Outcome) *options {
	if set, ok := sets[o]; ok {
		return set
	}
	return s.plain
}

// seriesCache finds a request's series and bounds how many there are.
type seriesCache struct {
	labels []string
	mu     sync.Mutex // guards what follows
	max    int
	models map[string]bool
	agents map[string]bool
	values [MaxLabels]map[string]bool

	byKey map[key]*series // at most maxSeries, and few of "other" for each route and operation

	lastKey    key // of the last row: the next one's are nearly always the same
	lastSeries *series

	capped atomic.Uint64 // requests that were counted under "other"
}

func newSeriesCache(labels []string, maxValues int) *seriesCache {
	c := &seriesCache{labels: labels, max: maxValues, models: map[string]bool{}, agents: map[string]bool{}, byKey: map[key]*series{}}
	for i := range c.values {
		c.values[i] = map[string]bool{}
	}
	return c
}

// of returns the series of a row and its agent as it is counted. first says that the row is seen for the first time, so that a row counted under "other"
// is counted once.
func (c *seriesCache) of(rec *meter.Record, first bool) (s *series, agent string) {
	k := key{route: rec.Route, operation: meter.Operation(rec.Dialect)}
	c.mu.Lock()
	defer c.mu.Unlock()
	admit := rec.TTFBUs.Valid && rec.Status.V < 400 // an upstream accepted it
	over := false
	if k.operation != "" {
		k.model = c.admit(c.models, rec.Model, admit, &over)
		agent = c.admit(c.agents, rec.Agent, admit, &over)
	}
	for i, l := range c.labels {
		k.labels[i] = c.admit(c.values[i], rec.Labels[l], admit, &over)
	}
	if c.lastSeries == nil || c.lastKey != k {
		if _, known := c.byKey[k]; !known && len(c.byKey) >= maxSeries {
			k, over = k.folded(), true
		}
		s, known := c.byKey[k]
		if !known {
			s = newSeries(k, c.labels)
			c.byKey[k] = s
		}
		c.lastKey, c.lastSeries = k, s
	}
	if over && first {
		c.capped.Add(1)
	}
	return c.lastSeries, agent
}

// folded is the key under which combinations beyond maxSeries are counted. Each part of a key has few values,
// but four labels and a model have millions of combinations.
func (k key) folded() key {
	for _, part := range []*string{&k.model, &k.labels[0], &k.labels[1], &k.labels[2], &k.labels[3]} {
		if *part != "" {
			*part = semconv.Other
		}
	}
	return k
}

// admit returns the value if it has a series of its own or may get one, else "other".
func (c *seriesCache) admit(known map[string]bool, value string, admit bool, over *bool) string {
	value = strings.ToValidUTF8(value, "\uFFFD")
	switch {
	case value == "" || known[value]:
		return value
	case admit && len(known) < c.max:
		known[value] = true
		return value
	}
	*over = *over || admit
	return semconv.Other
}
