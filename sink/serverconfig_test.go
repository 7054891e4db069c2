package sink_test

import (
	"testing"
	"time"

	"wattline/meter"
	"wattline/sink"
)

// TestConfigIDFollowsEveryFact: the same facts have the same id whenever they are seen, and each one counts.
func TestConfigIDFollowsEveryFact(t *testing.T) {
	base := func() *sink.ServerConfig { return &sink.ServerConfig{At: time.Unix(1, 0), GPUs: []string{"a"}} }
	one, later := base(), base()
	later.At = time.Unix(2, 0)
	one.Identify()
	later.Identify()
	if len(one.ConfigID) != 16 || one.ConfigID != later.ConfigID {
		t.Errorf("%q and %q", one.ConfigID, later.ConfigID)
	}
	one.Identify() // the id is none of the facts
	seen := map[string]string{one.ConfigID: "nothing"}
	for _, col := range sink.ConfigColumns()[2:] {
		c := base()
		switch p := col.Ptr(c).(type) {
		case *string:
			*p = "x"
		case *meter.Int:
			*p = meter.Some(0)
		case *[]string:
			*p = []string{"x"}
		default:
			t.Fatalf("%s is a %T", col.Name, p)
		}
		c.Identify()
		if was, ok := seen[c.ConfigID]; ok {
			t.Errorf("a change of %s has the id of a change of %s", col.Name, was)
		}
		seen[c.ConfigID] = col.Name
	}
}
