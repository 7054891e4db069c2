package stub

import (
	"fmt"
	"strconv"
	"strings"
)

// FaultKind is what goes wrong.
type FaultKind string

// The faults. Those that say "after" act on streams, once so many token events have been written.
const (
	None      FaultKind = ""
	Hang      FaultKind = "hang"       // the request is read and never answered
	Close     FaultKind = "close"      // the connection is closed without a byte of reply
	Reset     FaultKind = "reset"      // the same with a reset
	Die       FaultKind = "die"        // the connection is closed after :N token events
	DieReset  FaultKind = "die-reset"  // the same with a reset
	Error     FaultKind = "error"      // an error event after :N token events, then a clean end
	UntilEnd  FaultKind = "until-end"  // no fault of the server's: the reply has no length, its end is the close
	Status    FaultKind = "status"     // an error reply with status :N
	Stall     FaultKind = "stall"      // silence after :N token events, with the connection open
	HalfChunk FaultKind = "half-chunk" // the connection is closed within the chunk behind :N token events
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
		return Fault{}, fmt.Errorf("stub: fault %q is not known; hang, close, reset, die:N, die-reset:N, half-chunk:N, error:N, stall:N, status:N and until-end are", s)
	}
	if has {
		n, err := strconv.Atoi(num)
		if err != nil || n < 0 {
			return Fault{}, fmt.Errorf("stub: fault %q: behind the colon stands a number", s)
		}
		f.N = n
	}
	return f, nil
}
