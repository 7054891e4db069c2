package meter

import "sync"

// SlotClock learns whether an upstream sends a stream's headers when its slot starts, as llama-server
// does since llama.cpp #23884 (before, it sent them after the prompt was processed). The exchanges of
// one upstream share one. The zero value is ready; safe for concurrent use.
//
// Every stream that tells prompt_ms is a witness: T1 − prompt_ms is when its slot started by the
// server's clock. Only witnesses that can tell the two cases apart count: the prompt took longer than
// twice the tolerance, and no parser withheld the first tokens (tool calls), which would move T1.
type SlotClock struct {
	mu    sync.Mutex // guards all below
	votes [slotWitnesses]bool
	n     int // witnesses in votes
	next  int
	yes   int
}

const (
	slotWitnesses   = 16
	slotToleranceNs = 5e6
)

// witness enters one stream's head and its slot start by the server's numbers.
func (c *SlotClock) witness(head, start int64) {
	agree := near(head, start)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == slotWitnesses {
		if c.votes[c.next] {
			c.yes--
		}
	} else {
		c.n++
	}
	c.votes[c.next] = agree
	if agree {
		c.yes++
	}
	c.next = (c.next + 1) % slotWitnesses
}

// verdict reports what recent streams showed. known: there was at least one. trusted: heads come with the slot, since at
// least three in four agreed.
func (c *SlotClock) verdict() (trusted, known bool) {
	if c == nil {
		return false, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n > 0 && 4*c.yes >= 3*c.n, c.n > 0
}

func near(a, b int64) bool { return a-b <= slotToleranceNs && b-a <= slotToleranceNs }
