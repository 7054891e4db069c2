package autopsy

import (
	"sync"

	"wattline/meter/prompt"
)

// body is a copy of a request's body, and the prompt that was found in it. The upload writes it; the goroutine that Observe
// starts reads it, and Done takes it.
type body struct {
	a      *Autopsy
	length int64 // as the head tells it; 0: it does not

	mu       sync.Mutex // guards what follows
	text     []byte
	held     int64 // of Autopsy.inFlight
	tooLarge bool  // there was no memory for it
	parsed   int   // bytes of text that prompt was made of
	prompt   *prompt.Prompt
	sent     int64 // ns
}

// copies: a body's prompt is a text of its own, as long as the body or shorter.
const copies = 2

// firstBody is the memory that a body begins with where its length is not told.
const firstBody = 4 << 10

// Write takes a piece of the body. It never blocks for long: it copies.
func (b *body) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tooLarge {
		return len(p), nil
	}
	if need := len(b.text) + len(p); need > cap(b.text) {
		size := max(int64(need), min(b.length, int64(need)+1<<20), 2*int64(cap(b.text)))
		if b.length == 0 {
			size = max(size, firstBody)
		}
		if !b.a.reserve(copies*size - b.held) {
			b.a.release(b.held)
			b.text, b.held, b.tooLarge = nil, 0, true
			return len(p), nil
		}
		b.held = copies * size
		b.text = append(make([]byte, 0, size), b.text...)
	}
	b.text = append(b.text, p...)
	return len(p), nil
}

// parse makes the prompt of what has come so far.
func (b *body) parse() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tooLarge || b.prompt != nil && b.parsed == len(b.text) {
		return
	}
	b.parsed = len(b.text)
	defer func() {
		if v := recover(); v != nil {
			b.a.cfg.Log.Error("the autopsy could not read a prompt: this is a fault of wattline", "panic", v)
			b.prompt = &prompt.Prompt{Fingerprint: prompt.Fingerprint{Broken: true}, Unread: faulty}
		}
	}()
	b.prompt = prompt.Parse(b.a.key, b.text, make([]byte, 0, len(b.text)))
}

// faulty is the reason of what a panic left undone.
const faulty = "a fault of wattline, which its log tells"

// take ends the body and returns its prompt, nil where there was no memory for it.
func (b *body) take() (*prompt.Prompt, bool) {
	b.parse()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.a.release(b.held)
	b.text, b.held = nil, 0
	return b.prompt, b.tooLarge
}

// reserve takes memory for a body's copy, and reports whether there is that much. Remembered texts make room for it when the
// body is parsed: the data path waits for no verdict.
func (a *Autopsy) reserve(n int64) bool {
	if a.inFlight.Add(n) > a.cfg.Memory {
		a.inFlight.Add(-n)
		return false
	}
	return true
}

func (a *Autopsy) release(n int64) { a.inFlight.Add(-n) }

// shrink leaves the remembered texts what bodies in flight do not take. The caller holds mu.
func (a *Autopsy) shrink() {
	a.history.TextBytes = a.cfg.Memory - a.inFlight.Load()
	a.history.Shrink(a.history.TextBytes)
}
