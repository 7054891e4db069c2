package meter

// repeat knows the last event that brought one piece of generated output and nothing else, as the bytes
// before and behind that piece. In a stream nearly every event is that one again with other text, and what
// it means need not be read twice: the bytes before end within the string's quotes, so that any text
// without quote, escape or control character leads a reader to the same place as the old one, and the
// bytes behind lead it from there to the same end. FuzzSplit holds this to the long way, which pieces of
// one byte always take.
type repeat struct {
	before, behind int // bytes of each in buf; before is 0 when nothing is known
	output         output
	buf            [repeatBytes]byte
}

const (
	repeatBytes = 768 // events of known servers have 80 to 400 bytes; longer ones go the long way
	repeatText  = 128 // of the text that differs
)

// learn keeps a complete event and where its one output's text stood in it. text must be a part of event.
func (r *repeat) learn(event, text []byte, o output) {
	at := cap(event) - cap(text) // both reach to the end of the same array
	r.before = 0
	if at <= 0 || len(event)-len(text) > repeatBytes {
		return
	}
	r.behind = copy(r.buf[copy(r.buf[:], event[:at]):], event[at+len(text):])
	r.before, r.output = at, o
}

// match returns how many bytes of p are the known event with other text, 0 if p does not begin with one.
func (r *repeat) match(p []byte) int {
	n := r.before
	if n == 0 || len(p) <= n || string(p[:n]) != string(r.buf[:n]) {
		return 0
	}
	text := p[n:min(len(p), n+repeatText)]
	for i, c := range text {
		if c == '"' {
			end := n + i + r.behind
			if i == 0 || len(p) < end || string(p[n+i:end]) != string(r.buf[n:n+r.behind]) {
				return 0 // an empty text is no output
			}
			return end
		}
		if c == '\\' || c < ' ' {
			return 0
		}
	}
	return 0
}

// wipe forgets the bytes too.
func (r *repeat) wipe() {
	clear(r.buf[:])
	r.before = 0
}
