package meter

// DialectTranscription is OpenAI's audio transcriptions.
const DialectTranscription = "transcription"

func transcriptionDialect() dialect {
	return dialect{
		name: DialectTranscription, generates: true, computes: true,
		match:  lastSegment("transcriptions"),
		events: map[string]eventKind{"transcript.text.done": kindTranscriptEnd},
	}
}
