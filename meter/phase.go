package meter

// Phase is the server's current work for a request.
type Phase uint8

// The phases of a request, in order. A request may skip some and may end in any.
const (
	PhaseWaiting Phase = iota // sent upstream, holds no slot yet: costs no energy
	PhasePrefill              // holds a slot, its prompt is being processed
	PhaseDecode               // generates tokens
	PhaseDone                 // has left its slot
)
