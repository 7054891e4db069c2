package store

import (
	"fmt"
	"testing"
	"time"

	"wattline/meter"
	"wattline/sink"
)

// TestEachPrompted: every request of a user in a span comes once, in the order of its start whatever the order of writing, with
// its fingerprint; requests that began in one moment do not get lost between chunks.
func TestEachPrompted(t *testing.T) {
	s := tempStore(t)
	rows := &sink.Rows{}
	const n = 2*promptedChunk + 100
	for i := n - 1; i >= 0; i-- {
		rec := &meter.Record{ID: fmt.Sprintf("id %05d", i), StartedAt: epoch.Add(time.Duration(i/7) * time.Second), Dialect: "chat", Outcome: meter.OK, EnergyQuality: meter.EnergyUnavailable}
		switch i % 10 {
		case 1:
			rec.Agent = sink.ReplayAgent
		case 2: // no fingerprint was kept
		default:
			rows.Prompts = append(rows.Prompts, &sink.Prompt{ID: rec.ID, StartedAt: rec.StartedAt, Fingerprint: []byte{byte(i), byte(i >> 8)}})
		}
		rows.Requests = append(rows.Requests, rec)
	}
	must(t, s.Write(t.Context(), rows))
	var got []int
	from, to := epoch.Add(time.Second), epoch.Add(150*time.Second)
	err := tempReader(t, s).EachPrompted(t.Context(), from, to, func(rec *meter.Record, fingerprint []byte) error {
		var i int
		if _, err := fmt.Sscanf(rec.ID, "id %d", &i); err != nil {
			return err
		}
		if has := len(fingerprint) == 2 && int(fingerprint[0])|int(fingerprint[1])<<8 == i; has == (i%10 == 2) {
			t.Errorf("%s has the fingerprint %x", rec.ID, fingerprint)
		}
		got = append(got, i)
		return nil
	})
	must(t, err)
	var want []int
	for i := 7; i < 150*7; i++ {
		if i%10 != 1 {
			want = append(want, i)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%d requests, want %d", len(got), len(want))
	}
}
