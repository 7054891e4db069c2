package html

import "testing"

// TestThin: a long curve becomes short and keeps its peaks; a short one stays as it is.
func TestThin(t *testing.T) {
	long := make([][2]float64, 90_001)
	for i := range long {
		long[i] = [2]float64{float64(i), float64(i % 7)}
	}
	long[45_678][1], long[77_777][1] = 900, -3
	got := thin(long)
	if len(got) > mostPoints || len(got) < mostPoints/2 {
		t.Errorf("%d points", len(got))
	}
	peaks := 0
	for i, p := range got {
		if i > 0 && p[0] <= got[i-1][0] {
			t.Fatalf("point %d at %v follows %v", i, p, got[i-1])
		}
		if p == long[45_678] || p == long[77_777] {
			peaks++
		}
	}
	if peaks != 2 {
		t.Errorf("%d of 2 peaks are kept", peaks)
	}
	if got := thin(long[:mostPoints]); len(got) != mostPoints {
		t.Errorf("%d points of a short curve", len(got))
	}
}
