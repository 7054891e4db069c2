package meter_test

import (
	"net/http"
	"testing"

	"wattline/meter"
)

// The two bodies of a short unstreamed exchange with llama-server.
const (
	shortAsked = `{"model":"m.gguf","max_tokens":16,"messages":[{"role":"user","content":"Why does a proxy stand in the path? Answer in one sentence."}]}`
	shortTold  = `{"choices":[{"finish_reason":"length","index":0,"message":{"role":"assistant","content":"Because every byte passes through it."}}],"created":1763900000,"model":"m.gguf",` +
		`"system_fingerprint":"b11669-0000000","object":"chat.completion","usage":{"completion_tokens":16,"prompt_tokens":48,"total_tokens":64,"prompt_tokens_details":{"cached_tokens":0}},` +
		`"id":"chatcmpl-Vh2cQ0yV7bQ4mPz1nT8sRk5wLx3jDf6g","timings":{"cache_n":0,"prompt_n":48,"prompt_ms":12.5,"prompt_per_token_ms":0.26,"prompt_per_second":3840.0,"predicted_n":16,` +
		`"predicted_ms":80.25,"predicted_per_token_ms":5.0,"predicted_per_second":199.4}}`
)

var jsonType = []byte("application/json; charset=utf-8")

// unstreamed is one such exchange's way through a meter.
func unstreamed(m *meter.Meter, asked, told []byte, rec *meter.Record) {
	header := func(name string) []byte {
		if name == "Content-Type" {
			return jsonType
		}
		return nil
	}
	m.BeginRequest(meter.RequestHead{Method: http.MethodPost, Path: "/v1/chat/completions", Header: header})
	m.RequestBody(asked)
	_ = m.Work()
	m.BeginReply(meter.ReplyHead{Status: http.StatusOK, At: 200e6, Header: header})
	m.ReplyBody(told, 200e6, 201e6)
	*rec = meter.Record{}
	m.Fill(rec, meter.Marks{P0: 1e6, R: 1e6, P1: 2e6, H: 200e6, E: 200e6}, true)
}

// TestUnstreamedExchangeDoesNotAllocate: a meter that has seen a server's model, build and usual details has
// their texts.
func TestUnstreamedExchangeDoesNotAllocate(t *testing.T) {
	var m meter.Meter
	var rec meter.Record
	asked, told := []byte(shortAsked), []byte(shortTold)
	unstreamed(&m, asked, told, &rec)
	if rec.OutputTokens != meter.Some(16) || rec.PrefillUs != meter.Some(12_500) || rec.FinishReason != "length" {
		t.Fatalf("the row is wrong: %+v", rec)
	}
	if n := testing.AllocsPerRun(200, func() { unstreamed(&m, asked, told, &rec) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkUnstreamed(b *testing.B) {
	var m meter.Meter
	var rec meter.Record
	asked, told := []byte(shortAsked), []byte(shortTold)
	b.ReportAllocs()
	for b.Loop() {
		unstreamed(&m, asked, told, &rec)
	}
}
