package semconv

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	otel "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/semconv/v1.41.0/genaiconv"
	"go.opentelemetry.io/otel/semconv/v1.41.0/hwconv"
	"go.opentelemetry.io/otel/semconv/v1.41.0/processconv"

	"wattline/meter"
)

// conventional are the names of the conventions that this package uses, as their Go package spells them.
func conventional() map[string]bool {
	known := map[string]bool{
		genaiconv.ServerRequestDuration{}.Name(): true, genaiconv.ServerTimeToFirstToken{}.Name(): true,
		genaiconv.ServerTimePerOutputToken{}.Name(): true, genaiconv.ClientTokenUsage{}.Name(): true,
		hwconv.Energy{}.Name(): true, hwconv.Power{}.Name(): true, hwconv.Temperature{}.Name(): true,
		hwconv.GpuMemoryUsage{}.Name(): true, hwconv.GpuUtilization{}.Name(): true,
		processconv.CPUTime{}.Name(): true, processconv.MemoryUsage{}.Name(): true,
	}
	for _, k := range []attribute.Key{
		otel.ServiceNameKey, otel.ServiceVersionKey, otel.ServiceInstanceIDKey,
		otel.HTTPRequestMethodKey, otel.HTTPRequestMethodOriginalKey, otel.HTTPResponseStatusCodeKey, otel.HTTPRouteKey,
		otel.HTTPRequestBodySizeKey, otel.HTTPResponseBodySizeKey, otel.URLPathKey, otel.URLSchemeKey, otel.ServerAddressKey,
		otel.ServerPortKey, otel.ErrorTypeKey,
		otel.GenAIOperationNameKey, otel.GenAIProviderNameKey, otel.GenAIRequestModelKey, otel.GenAIRequestTemperatureKey, otel.GenAIRequestSeedKey, otel.GenAIRequestChoiceCountKey, otel.GenAIRequestMaxTokensKey,
		otel.GenAIRequestStreamKey, otel.GenAIResponseModelKey, otel.GenAIResponseFinishReasonsKey, otel.GenAIResponseTimeToFirstChunkKey,
		otel.GenAIUsageInputTokensKey, otel.GenAIUsageOutputTokensKey, otel.GenAIUsageCacheReadInputTokensKey,
		otel.GenAIUsageReasoningOutputTokensKey, otel.GenAITokenTypeKey,
		otel.HwIDKey, otel.HwTypeKey, otel.CPUModeKey,
	} {
		known[string(k)] = true
	}
	return known
}

// names returns every string constant of this package with its value.
func names(t *testing.T) map[string]string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "semconv.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		for i, name := range spec.Names {
			lit, ok := spec.Values[i].(*ast.BasicLit)
			if !ok {
				t.Fatalf("%s is no plain string", name.Name)
			}
			if out[name.Name], err = strconv.Unquote(lit.Value); err != nil {
				t.Fatal(err)
			}
		}
		return true
	})
	return out
}

func TestNamesAreTheConventionsOrOurs(t *testing.T) {
	known := conventional()
	used := map[string]bool{}
	for name, value := range names(t) {
		dotted := strings.Contains(value, ".") && !strings.Contains(value, "://")
		if !dotted || strings.HasPrefix(value, "wattline.") {
			continue
		}
		used[value] = true
		if !known[value] {
			t.Errorf("%s = %q is neither in conventions 1.41.0 nor under wattline.*", name, value)
		}
	}
	for k := range known {
		if !used[k] {
			t.Errorf("%s is compared but no longer used", k)
		}
	}
	if SchemaURL != otel.SchemaURL {
		t.Errorf("SchemaURL is %s, the compared package's %s", SchemaURL, otel.SchemaURL)
	}
}

func TestFixedValuesAreTheConventions(t *testing.T) {
	for _, c := range []struct {
		got  string
		want attribute.KeyValue
	}{
		{meter.Operation(meter.DialectChat), otel.GenAIOperationNameChat}, {meter.Operation(meter.DialectResponses), otel.GenAIOperationNameChat},
		{meter.Operation(meter.DialectMessages), otel.GenAIOperationNameChat},
		{meter.Operation(meter.DialectCompletions), otel.GenAIOperationNameTextCompletion},
		{meter.Operation(meter.DialectNative), otel.GenAIOperationNameTextCompletion},
		{meter.Operation(meter.DialectInfill), otel.GenAIOperationNameTextCompletion},
		{meter.Operation(meter.DialectEmbeddings), otel.GenAIOperationNameEmbeddings},
		{TokenInput, otel.GenAITokenTypeInput}, {TokenOutput, otel.GenAITokenTypeOutput}, {HWGPU, otel.HwTypeGpu}, {HWCPU, otel.HwTypeCPU},
		{CPUUser, otel.CPUModeUser}, {CPUOther, otel.CPUModeSystem}, {OtherMethod, otel.HTTPRequestMethodOther},
	} {
		if c.got != c.want.Value.AsString() {
			t.Errorf("%s is %q in the conventions, %q here", c.want.Key, c.want.Value.AsString(), c.got)
		}
	}
}
