package meter_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"wattline/meter"
)

// FuzzIdentify: whatever a client puts into its headers, what is kept of it is bounded and printable, and
// a key is never kept.
func FuzzIdentify(f *testing.F) {
	f.Add("curl/8.1 (x)", "team=search,run=7", "Bearer sk-1", "127.0.0.1:80", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	f.Add("", "=,a=,=b,,a=b=c, a = b ,"+strings.Repeat("k=v,", 50), "bearer ", "[::1]:5", "00-00000000000000000000000000000000-0-")
	f.Add("\xff(", strings.Repeat("x", 300)+"=y", "Basic \x00", ":", strings.Repeat("-", 55))
	f.Add(strings.Repeat("a", 1000), "a=\xff\x00", "Bearer  ", "", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	f.Fuzz(func(t *testing.T, agent, labels, auth, addr, parent string) {
		header := func(name string) []byte {
			return []byte(map[string]string{
				"User-Agent": agent, "X-Wattline-Labels": labels, "Authorization": auth, "Traceparent": parent,
				"X-Wattline-Session": agent, "X-Request-Id": labels, "X-OpenWebUI-User-Id": auth, "X-Api-Key": auth,
			}[name])
		}
		for _, mode := range []string{meter.IdentifyHash, meter.IdentifyPlain, meter.IdentifyNone} {
			id := meter.Identify{Mode: mode, Key: []byte("a secret of this installation...")}
			var rec meter.Record
			id.Fill(&rec, header, addr)
			for name, v := range map[string]string{"agent": rec.Agent, "session": rec.Session, "request id": rec.ClientRequestID, "trace": rec.TraceID, "key": rec.APIKeyID} {
				if len(v) > 3*256 || !utf8.ValidString(v) {
					t.Errorf("%s, mode %s: %d bytes, valid UTF-8 %v", name, mode, len(v), utf8.ValidString(v))
				}
			}
			if n := len(rec.APIKeyID); n != 0 && n != 16 || mode == meter.IdentifyNone && rec.Session+rec.User+rec.APIKeyID+rec.ClientAddr != "" {
				t.Errorf("mode %s keeps %q, %q, %q, %q", mode, rec.Session, rec.User, rec.APIKeyID, rec.ClientAddr)
			}
			if n := len(rec.TraceID); n != 0 && n != 32 || len(rec.Labels) > 16 {
				t.Errorf("trace %q, %d labels", rec.TraceID, len(rec.Labels))
			}
			for k, v := range rec.Labels {
				if k == "" || len(k)+len(v) > 64+256 || !utf8.ValidString(k+v) || strings.ContainsAny(k+v, "\x00\n") {
					t.Errorf("label %q=%q", k, v)
				}
			}
		}
	})
}
