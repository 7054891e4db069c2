package otlp

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"wattline/meter"
	"wattline/sink/semconv"
)

// serverName is METHOD ROUTE for paths of a known API, else METHOD, so that clients cannot invent span names.
func serverName(rec *meter.Record) string {
	method, _ := knownMethod(rec.Method)
	return strings.TrimSpace(method + " " + routeOf(rec))
}

// routeOf is http.route: the path, where an upstream has answered on it and it is one of an API that we
// know. The id of a resumed stream is no part of a route.
func routeOf(rec *meter.Record) string {
	switch {
	case rec.Dialect == "" || !rec.TTFBUs.Valid || rec.Status.V == http.StatusNotFound:
		return ""
	case rec.Dialect == meter.DialectResume:
		parent, _, _ := strings.Cut(rec.Path, "/stream")
		return parent + "/stream/{id}"
	}
	return rec.Path
}

// knownMethod is the method as the conventions name it, and for http.request.method.
func knownMethod(m string) (name, attribute string) {
	switch m {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY":
		return m, m
	}
	return "HTTP", semconv.OtherMethod
}

// clientName is OPERATION MODEL, as the GenAI conventions want it, else as serverName.
func clientName(rec *meter.Record) string {
	if rec.Dialect == "" {
		return serverName(rec)
	}
	return strings.TrimSpace(meter.Operation(rec.Dialect) + " " + rec.Model)
}

func serverAttributes(rec *meter.Record, scheme string) attributes {
	var a attributes
	httpAttributes(&a, rec)
	a.text(semconv.HTTPRoute, routeOf(rec))
	a.text(semconv.URLScheme, scheme)
	a.text(semconv.URLPath, rec.Path)
	a.integer(semconv.HTTPRequestBodySize, rec.RequestBytes)
	a.integer(semconv.HTTPResponseBodySize, rec.ResponseBytes)
	a.text(semconv.RequestID, rec.ID)
	a.text(semconv.ClientRequestID, rec.ClientRequestID)
	a.text(semconv.Route, rec.Route)
	a.text(semconv.Outcome, string(rec.Outcome))
	a.text(semconv.Error, ownError(rec))
	a.text(semconv.Agent, rec.Agent)
	a.text(semconv.Session, rec.Session)
	a.text(semconv.User, rec.User)
	for _, k := range slices.Sorted(maps.Keys(rec.Labels)) {
		a.text(semconv.LabelPrefix+clean(k), rec.Labels[k])
	}
	a.parts(semconv.TTFTMs, rec.TTFTUs, 1e3)
	a.parts(semconv.OverheadMs, rec.ProxyOverheadUs, 1e3)
	a.parts(semconv.WriteBlockedMs, rec.WriteBlockedUs, 1e3)
	a.parts(semconv.MeanConcurrency, rec.MeanConcurrency, 1e3)
	if s := serverStatus(rec); s != nil {
		a.text(semconv.ErrorType, errorType(rec))
	}
	return a
}

func clientAttributes(rec *meter.Record, d *meter.Details) attributes {
	var a attributes
	httpAttributes(&a, rec)
	upstreamAddress(&a, rec.Upstream)
	if s := clientStatus(rec); s != nil {
		a.text(semconv.ErrorType, errorType(rec))
	}
	if rec.Dialect != "" {
		genAIAttributes(&a, rec, d)
	}
	a.text(semconv.ConfigID, rec.ConfigID)
	energyAttributes(&a, rec)
	return a
}

func httpAttributes(a *attributes, rec *meter.Record) {
	if rec.Method != "" { // a refused head may have none
		_, method := knownMethod(rec.Method)
		a.text(semconv.HTTPRequestMethod, method)
		if method == semconv.OtherMethod {
			a.text(semconv.HTTPRequestMethodOriginal, rec.Method)
		}
	}
	a.integer(semconv.HTTPResponseStatusCode, rec.Status)
}

func upstreamAddress(a *attributes, upstream string) {
	u, err := url.Parse(upstream)
	if err != nil {
		return
	}
	if u.Scheme == "unix" {
		a.text(semconv.ServerAddress, u.Path)
		return
	}
	a.text(semconv.ServerAddress, u.Hostname())
	port, err := strconv.ParseInt(u.Port(), 10, 64)
	switch {
	case err == nil:
	case u.Scheme == "https":
		port = 443
	default:
		port = 80
	}
	a.integer(semconv.ServerPort, meter.Some(port))
}

// answered reports whether column model was taken from a reply.
func answered(rec *meter.Record) bool {
	return rec.TTFBUs.Valid && rec.Status.Valid && rec.Status.V < 400
}

// modelAttributes writes the requested and the answered model. Column model is the latter after a successful reply, else
// the former.
func modelAttributes(a *attributes, rec *meter.Record, d *meter.Details) {
	if !answered(rec) {
		a.text(semconv.GenAIRequestModel, rec.Model)
		return
	}
	a.text(semconv.GenAIRequestModel, d.RequestedModel)
	a.text(semconv.GenAIResponseModel, rec.Model)
}

func genAIAttributes(a *attributes, rec *meter.Record, d *meter.Details) {
	a.text(semconv.GenAIOperationName, meter.Operation(rec.Dialect))
	a.text(semconv.GenAIProviderName, semconv.Provider)
	modelAttributes(a, rec, d)
	if d.Temperature.Valid {
		a.number(semconv.GenAIRequestTemperature, d.Temperature.V)
	}
	a.integer(semconv.GenAIRequestSeed, d.Seed)
	a.integer(semconv.GenAIRequestChoices, d.Completions)
	a.integer(semconv.Slot, d.Slot)
	a.integer(semconv.GenAIRequestMaxTokens, rec.MaxTokens)
	a.flag(semconv.GenAIRequestStream, rec.Stream)
	if rec.FinishReason != "" {
		a.texts(semconv.GenAIResponseFinish, strings.Split(rec.FinishReason, ","))
	}
	a.parts(semconv.GenAITimeToFirstChunk, rec.UpstreamTTFTUs, 1e6)
	a.integer(semconv.GenAIUsageInputTokens, rec.PromptTokens)
	a.integer(semconv.GenAIUsageCacheReadTokens, rec.CachedTokens)
	a.integer(semconv.GenAIUsageOutputTokens, rec.OutputTokens)
	a.integer(semconv.GenAIUsageReasoningTokens, rec.ReasoningTokens)
	a.text(semconv.Dialect, rec.Dialect)
	a.text(semconv.TokenSource, rec.TokenSource)
	a.integer(semconv.OutputEvents, rec.OutputEvents)
	a.integer(semconv.DraftTokens, rec.DraftTokens)
	a.integer(semconv.DraftAccepted, rec.DraftAcceptedTokens)
	a.parts(semconv.ITLP50Ms, rec.ITLP50Us, 1e3)
	a.parts(semconv.ITLP90Ms, rec.ITLP90Us, 1e3)
	a.parts(semconv.ITLP99Ms, rec.ITLP99Us, 1e3)
	a.parts(semconv.ITLMaxMs, rec.ITLMaxUs, 1e3)
	a.integer(semconv.Stalls, rec.Stalls)
}

func energyAttributes(a *attributes, rec *meter.Record) {
	a.text(semconv.EnergyQuality, rec.EnergyQuality)
	a.text(semconv.EnergyMethod, rec.EnergyMethod)
	a.text(semconv.EnergySource, rec.EnergySource)
	a.parts(semconv.EnergyJ, rec.GPUUj, 1e6)
	a.parts(semconv.EnergySigmaJ, rec.GPUSigmaUj, 1e6)
	a.parts(semconv.EnergyActiveJ, rec.GPUActiveUj, 1e6)
	a.parts(semconv.EnergyIdleJ, rec.GPUIdleUj, 1e6)
	a.parts(semconv.EnergyIdleWaitingJ, rec.GPUIdleWaitingUj, 1e6)
	a.parts(semconv.EnergyPrefillJ, rec.GPUPrefillUj, 1e6)
	a.parts(semconv.EnergyDecodeJ, rec.GPUDecodeUj, 1e6)
	a.parts(semconv.EnergyEstimateJ, rec.GPUEstimateUj, 1e6)
	a.parts(semconv.EnergyCPUJ, rec.CPUUj, 1e6)
	a.parts(semconv.EnergyCPUSigmaJ, rec.CPUSigmaUj, 1e6)
	if uj := rec.SlotUj(); uj.Valid && rec.OutputTokens.V > 0 {
		a.parts(semconv.EnergyPerTokenJ, uj, 1e6*float64(rec.OutputTokens.V))
	}
	a.parts(semconv.EnergyMeanPowerW, rec.GPUMeanMw, 1e3)
	a.parts(semconv.EnergyPowerLimitW, rec.GPUPowerLimitMw, 1e3)
}

func loadAttributes(*meter.Record, *meter.Details) attributes { return nil }

func queueAttributes(_ *meter.Record, d *meter.Details) (a attributes) {
	a.text(semconv.PhaseFrom, d.QueueSource)
	return a
}

func prefillAttributes(rec *meter.Record, d *meter.Details) (a attributes) {
	a.text(semconv.PhaseFrom, d.PrefillSource)
	a.integer(semconv.GenAIUsageInputTokens, rec.PromptTokens)
	a.integer(semconv.GenAIUsageCacheReadTokens, rec.CachedTokens)
	a.parts(semconv.EnergyPrefillJ, rec.GPUPrefillUj, 1e6)
	return a
}

func decodeAttributes(rec *meter.Record, d *meter.Details) (a attributes) {
	a.text(semconv.PhaseFrom, d.DecodeSource)
	a.integer(semconv.GenAIUsageOutputTokens, rec.OutputTokens)
	a.parts(semconv.EnergyDecodeJ, rec.GPUDecodeUj, 1e6)
	return a
}

// ownError is the row's error if wattline wrote it. An upstream's message can quote the request, so it stays in the row.
func ownError(rec *meter.Record) string {
	if rec.Outcome == meter.UpstreamError && rec.TTFBUs.Valid {
		return ""
	}
	return rec.Error
}

// serverStatus is nil where the conventions leave a SERVER span's status unset: a client that left, and
// 4xx, are no failure of the server.
func serverStatus(rec *meter.Record) *tracepb.Status {
	failed := rec.Outcome == meter.Truncated || rec.Outcome == meter.UpstreamError && rec.Status.V < 400 || rec.Status.V >= 500
	return status(failed, rec)
}

// clientStatus is nil for successful replies, and for cancelled requests.
func clientStatus(rec *meter.Record) *tracepb.Status {
	return status(rec.Outcome == meter.Truncated || rec.Outcome == meter.UpstreamError || rec.Status.V >= 400, rec)
}

func status(failed bool, rec *meter.Record) *tracepb.Status {
	if !failed {
		return nil
	}
	return &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR, Message: clean(ownError(rec))}
}

// errorType is the status code of a failure, or the outcome if there is no such code.
func errorType(rec *meter.Record) string {
	if rec.Status.V >= 400 {
		return strconv.FormatInt(rec.Status.V, 10)
	}
	return string(rec.Outcome)
}
