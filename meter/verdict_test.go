package meter

import "testing"

// TestSlotClockNeedsThreeInFour: of the last 16 witnesses at least 12 must agree, whatever came before.
func TestSlotClockNeedsThreeInFour(t *testing.T) {
	for _, c := range []struct {
		agree, differ int
		trusted       bool
	}{{12, 4, true}, {11, 5, false}, {3, 1, true}, {2, 1, false}, {0, 1, false}} {
		clock := new(SlotClock)
		for range 100 {
			clock.witness(0, 1e9) // long past
		}
		if c.agree+c.differ < slotWitnesses {
			clock = new(SlotClock)
		}
		for range c.agree {
			clock.witness(1e6, 2e6)
		}
		for range c.differ {
			clock.witness(1e6, 1e9)
		}
		if trusted, known := clock.verdict(); trusted != c.trusted || !known {
			t.Errorf("%d agree, %d differ: trusted %v, known %v", c.agree, c.differ, trusted, known)
		}
	}
}
