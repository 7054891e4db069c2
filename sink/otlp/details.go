package otlp

import (
	"encoding/json"

	"wattline/meter"
	"wattline/sink/semconv"
)

// details are the members of column details that spans show. What it does not hold stays null.
type details struct {
	RequestedModel string    `json:"requested_model"` // where the reply named another
	Temperature    *float64  `json:"temperature"`
	Seed           meter.Int `json:"seed"`
	Completions    meter.Int `json:"n"`
	Slot           meter.Int `json:"slot"`
	QueueFrom      string    `json:"queue_from"`
	PrefillFrom    string    `json:"prefill_from"`
	DecodeFrom     string    `json:"decode_from"`
}

// detailsOf reads the column. One that is no JSON object tells nothing: a span is made even so.
func detailsOf(rec *meter.Record) (d details) {
	if rec.Details == "" {
		return d
	}
	if err := json.Unmarshal([]byte(rec.Details), &d); err != nil {
		return details{}
	}
	return d
}

// models writes the model's attributes: column model is what a successful reply named, else what was
// asked for.
func (d *details) models(a *attributes, rec *meter.Record) {
	if !answered(rec) {
		a.text(semconv.GenAIRequestModel, rec.Model)
		return
	}
	a.text(semconv.GenAIRequestModel, d.RequestedModel)
	a.text(semconv.GenAIResponseModel, rec.Model)
}

func (d *details) asked(a *attributes) {
	if d.Temperature != nil {
		a.number(semconv.GenAIRequestTemperature, *d.Temperature)
	}
	a.integer(semconv.GenAIRequestSeed, d.Seed)
	a.integer(semconv.GenAIRequestChoices, d.Completions)
	a.integer(semconv.Slot, d.Slot)
}
