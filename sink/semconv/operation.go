package semconv

import "wattline/meter"

// Operation is gen_ai.operation.name for a dialect: the conventions' word where they have one, else the
// dialect's own name, and "" for no dialect.
func Operation(dialect string) string {
	switch dialect {
	case meter.DialectChat, meter.DialectResponses, meter.DialectMessages:
		return OperationChat
	case meter.DialectCompletions, meter.DialectNative, meter.DialectInfill:
		return OperationText
	case meter.DialectEmbeddings:
		return OperationEmbedding
	}
	return dialect
}
