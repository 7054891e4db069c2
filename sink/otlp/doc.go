// Package otlp sends what wattline measured to an OpenTelemetry collector: a trace a request, and the
// metrics that package metrics defines.
//
// A trace is decided when the request is forwarded and sent when its row is final. Route gives the proxy
// the traceparent that goes upstream, notes what the row will not hold (the ids, and when the request had
// been sent), and Tracer turns row and note into spans with the row's own exact times:
//
//	POST /v1/chat/completions   SERVER   head read .. last flush
//	  chat MODEL                CLIENT   head read .. end of the upstream's reply; its id went upstream
//	    queue, prefill, decode  INTERNAL, where the row has them
//
// Energy arrives seconds after the reply, so traces wait for it off the data path. Nothing here blocks
// the traffic: a collector that hangs or is away costs memory up to Config.Capacity, and then spans, each
// of them counted in Stats.
//
// Spans hold counts, times and joules, never what was asked or answered: wattline's rows have no content.
package otlp
