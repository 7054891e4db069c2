package meter

// DialectResume is the rest of an earlier stream, in that stream's dialect. The model ran for that stream's
// request, so it counts there.
const DialectResume = "resume"

func resumeDialect() dialect {
	return dialect{
		name: DialectResume, generates: true,
		match: func(last, parent string) bool { return last == "stream" || parent == "stream" },
	}
}
