package stub

import (
	"fmt"
	"strconv"
	"strings"
)

// FaultKind is a kind of failure.
type FaultKind string

// The faults. Those with :N act on streams, after N token events; Status is answered at once.
const (
	None      FaultKind = ""
	Hang      FaultKind = "hang"       // the request is read and never answered
	Close     FaultKind = "close"      // the connection is closed without a reply
	Reset     FaultKind = "reset"      // the connection is reset without a reply
	Die       FaultKind = "die"        // :N, the connection is closed
	DieReset  FaultKind = "die-reset"  // :N, the connection is reset
	Error     FaultKind = "error"      // :N, an error event and a clean end
	UntilEnd  FaultKind = "until-end"  // no failure: the reply has no length and ends with the connection
	Status    FaultKind = "status"     // an error reply with status :N
	Stall     FaultKind = "stall"      // :N, silence on an open connection
	HalfChunk FaultKind = "half-chunk" // :N, the connection is closed within the next chunk
)

// Fault is a kind and its number.
type Fault struct {
	Kind FaultKind
	N    int
}

// ParseFault reads "die:5" or "hang".
func ParseFault(s string) (Fault, error) {
	kind, num, has := strings.Cut(s, ":")
	f := Fault{Kind: FaultKind(kind)}
	switch f.Kind {
	case None, Hang, Close, Reset, Die, DieReset, Error, UntilEnd, Status, Stall, HalfChunk:
	default:
		return Fault{}, fmt.Errorf("stub: fault %q is not known: use hang, close, reset, die:N, die-reset:N, half-chunk:N, error:N, stall:N, status:N or until-end", s)
	}
	if has {
		n, err := strconv.Atoi(num)
		if err != nil || n < 0 {
			return Fault{}, fmt.Errorf("stub: fault %q needs a number after the colon", s)
		}
		f.N = n
	}
	return f, nil
}
