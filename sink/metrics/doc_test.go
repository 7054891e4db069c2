package metrics

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/otlptranslator"

	"wattline/sink/semconv"
)

var update = flag.Bool("update", false, "write sink/METRICS.md anew")

// sink/METRICS.md is made from the definitions: go test ./sink/metrics -run Documentation -update
func TestMetricsDocumentation(t *testing.T) {
	path := filepath.Join("..", "METRICS.md")
	want := document(t)
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the definitions say; -update writes it anew", path)
	}
}

func document(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, `# Metrics

Made from sink/metrics/definitions.go by a test; edit that, then run
`+"`go test ./sink/metrics -run Documentation -update`"+`.

- **Where.** `+"`/metrics`"+` on the admin listener (Prometheus; OpenMetrics with exemplars for a scraper
  that asks for it), and every 15 s to the collector that `+"`--otlp-endpoint`"+` names. Both have the
  same metrics and numbers. OTLP's names stand left of the arrow, Prometheus's right of it.
- **What.** Metrics of requests are recorded from the rows: each equals the sum over the named
  column of the store's rows since wattline started. Nulls are not recorded; a zero was measured.
- **Attributes.** The first 32 models and agents that a server accepted, and 32 values of each label
  that `+"`--metric-labels`"+` names, are told apart; further ones are `+"`%s`"+`. A label k is the
  attribute `+"`wattline.label.k`"+`. One metric has at most %d series. In Prometheus an attribute's
  dots are underscores.
- **Marks** (P0, P1, H, S, T1, Tn, W1, E) are defined in meter/DEFINITIONS.md; the ledger in
  meter/energy/LEDGER.md.
- Names outside `+"`wattline.*`"+` are OpenTelemetry's (%s);
  joules per request have no convention yet.

| metric | kind | unit | meaning | attributes |
|---|---|---|---|---|
`, semconv.Other, maxSeries, semconv.SchemaURL)
	for _, d := range Definitions() {
		attrs := make([]string, len(d.Attributes))
		for i, a := range d.Attributes {
			attrs[i] = "`" + a + "`"
		}
		fmt.Fprintf(&b, "| `%s` → `%s` | %s | %s | %s | %s |\n", d.Name, prometheusName(t, d), kindInWords(d.Kind), d.Unit, d.Doc, strings.Join(attrs, ", "))
	}
	b.WriteString("\n## Buckets\n\nUpper bounds, in the metric's unit. The conventions' bounds for time per token begin at 10 ms; these\nresolve 10,000 tokens/s.\n\n")
	for _, d := range Definitions() {
		if len(d.Bounds) > 0 {
			writeBounds(&b, d)
		}
	}
	return b.String()
}

// writeBounds writes a list item of the buckets' bounds, wrapped at 100 columns.
func writeBounds(b *strings.Builder, d Definition) {
	line := fmt.Sprintf("- `%s`:", d.Name)
	for _, bound := range d.Bounds {
		word := fmt.Sprint(" ", bound)
		if len(line)+len(word) > 100 {
			b.WriteString(line + "\n")
			line = " "
		}
		line += word
	}
	b.WriteString(line + "\n")
}

func kindInWords(k Kind) string {
	return strings.TrimPrefix(string(k), "observed ")
}

// prometheusName returns the exporter's name for a metric; TestPageNames compares it with a page.
func prometheusName(t *testing.T, d Definition) string {
	t.Helper()
	kind := map[Kind]otlptranslator.MetricType{
		Counter: otlptranslator.MetricTypeMonotonicCounter, ObservedCounter: otlptranslator.MetricTypeMonotonicCounter,
		Histogram: otlptranslator.MetricTypeHistogram, ObservedUpDown: otlptranslator.MetricTypeNonMonotonicCounter,
		ObservedGauge: otlptranslator.MetricTypeGauge,
	}[d.Kind]
	namer := otlptranslator.NewMetricNamer("", otlptranslator.UnderscoreEscapingWithSuffixes)
	name, err := namer.Build(otlptranslator.Metric{Name: d.Name, Unit: d.Unit, Type: kind})
	if err != nil {
		t.Fatal(err)
	}
	return name
}
