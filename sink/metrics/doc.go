// Package metrics is the one definition of wattline's metrics, for OTLP and Prometheus alike: Definitions
// lists them with unit, meaning and attributes, and sink/METRICS.md is made from that list.
//
// Figures of requests come from their rows, so that a sum over the store's rows and a metric are the same
// number: Ended takes a row when its request is over, Final when its energy is settled. Devices and the
// ledger come from their rows too. What has a state rather than a history (in flight, waiting) is asked
// when they are scraped, from the Sources given to Watch.
//
// Attributes that clients can choose (model, labels) are capped: values beyond the cap are counted under
// "other". No name that only a refused or failed request brought takes a place.
package metrics
