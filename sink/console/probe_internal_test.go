package console

import "testing"

func TestProbeTarget(t *testing.T) {
	for p, want := range map[Probe]string{
		{Admin: "unix:///run/a.sock"}:            "http://localhost",
		{Admin: "unix:///run/a.sock", TLS: true}: "https://localhost",
		{Admin: "0.0.0.0:1", TLS: true}:          "https://127.0.0.1:1",
	} {
		if got, _ := p.target(); got != want {
			t.Errorf("%+v: %s, want %s", p, got, want)
		}
	}
}
