package sink

import "time"

// Prompt is the fingerprint of one request's prompt (meter/prompt), kept in the store alone (--keep-prompts): hashes under the
// installation's key, no text.
type Prompt struct {
	ID          string
	StartedAt   time.Time
	Fingerprint []byte
}
