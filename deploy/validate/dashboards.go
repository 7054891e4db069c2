package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/barchart"
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// dashboards decodes each file into the types that Grafana publishes of its dashboards, panels and
// Prometheus queries. Queries of data sources that are plugins have no published types: tests run those.
func dashboards(files []string) error {
	types := cog.NewRuntime()
	types.RegisterPanelcfgVariant(barchart.VariantConfig())
	types.RegisterPanelcfgVariant(stat.VariantConfig())
	types.RegisterPanelcfgVariant(table.VariantConfig())
	types.RegisterPanelcfgVariant(timeseries.VariantConfig())
	types.RegisterDataqueryVariant(prometheus.VariantConfig())
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var d dashboard.Dashboard
		var wrong cog.BuildErrors
		if err := d.UnmarshalJSONStrict(text); err != nil && (!errors.As(err, &wrong) || len(wrong) > 0) { // an empty list is no error
			return fmt.Errorf("%s: %w", file, err)
		}
		if d.Title == nil || len(d.Panels) == 0 {
			return errors.New(file + " has no title or no panels")
		}
		fmt.Printf("%s: %d panels\n", *d.Title, len(d.Panels))
	}
	return nil
}
