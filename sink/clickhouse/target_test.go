package clickhouse

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	driver "github.com/ClickHouse/clickhouse-go/v2"

	"wattline/sink/clickhouse/chtest"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		dsn, want string
		addr      string
		protocol  driver.Protocol
		tls       bool
	}{
		{"clickhouse://h", "clickhouse://default@h:9000/wattline", "h:9000", driver.Native, false},
		{"tcp://u@h:19000/db", "clickhouse://u@h:19000/db", "h:19000", driver.Native, false},
		{"clickhouse://u@a:9001,b,[::1]:9003/db", "clickhouse://u@a:9001,b:9000,[::1]:9003/db", "a:9001 b:9000 [::1]:9003", driver.Native, false},
		{"clickhouse://u@h/db?secure=true", "clickhouse://u@h:9440/db", "h:9440", driver.Native, true},
		{"http://u@h/db", "http://u@h:8123/db", "h:8123", driver.HTTP, false},
		{"https://u@h/db", "https://u@h:8443/db", "h:8443", driver.HTTP, true},
		{"https://u@h:443/?skip_verify=true", "https://u@h:443/wattline", "h:443", driver.HTTP, true},
		{"http://u:p%40ss@h/db", "http://u@h:8123/db", "h:8123", driver.HTTP, false},
		{"http://h/db?username=u&password=p%40ss", "http://u@h:8123/db", "h:8123", driver.HTTP, false},
	} {
		target, err := ParseDSN(c.dsn)
		if err != nil {
			t.Errorf("%s: %v", c.dsn, err)
			continue
		}
		o := target.options
		if target.String() != c.want || strings.Join(o.Addr, " ") != c.addr || o.Protocol != c.protocol || (o.TLS != nil) != c.tls {
			t.Errorf("%s: %s at %v, protocol %v, TLS %v", c.dsn, target, o.Addr, o.Protocol, o.TLS != nil)
		}
		if has := strings.Contains(c.dsn, "p%40ss"); target.HasPassword() != has || (has && o.Auth.Password != "p@ss") {
			t.Errorf("%s: HasPassword %v", c.dsn, target.HasPassword())
		}
		if again, err := ParseDSN(target.String()); err != nil || (!c.tls && again.String() != c.want) {
			t.Errorf("%s does not parse to itself: %v", target, err)
		}
	}
}

// Whatever is wrong with a DSN, the error says something and not the password.
func TestParseErrors(t *testing.T) {
	const secret = "hunter2"
	for dsn, says := range map[string]string{
		"":                                   "must look like",
		"u:hunter2@h:9000/db":                "must look like",
		"postgres://u:hunter2@h/db":          "unknown scheme",
		"clickhouse://u:hunter2@h:port/db":   "cannot be read",
		"clickhouse://u:hunter2#x@h:9000/db": "",
		"clickhouse://u:hunter2/y@h:9000/db": "cannot be read",
		"clickhouse://u:hunter2@/db":         "cannot be read",
		"http://u:hunter2@h/db?dial_timeout=long&password=hunter2":                   "cannot be read",
		"http://u:hunter2@h/db?x=%zz":                                                "not a valid query",
		"http://u:hunter2@h/db?ca_file=/etc/ca.pem":                                  "ca_file needs TLS",
		"https://u:hunter2@h/db?ca_file=" + url.QueryEscape("/no/such/file"):         "ca_file",
		"https://u:hunter2@h/db?ca_file=" + url.QueryEscape(os.Args[0]):              "no certificate",
		"clickhouse://u:hunter2@h/db?http_proxy=" + url.QueryEscape("://u:hunter2@"): "cannot be read",
	} {
		_, err := ParseDSN(dsn)
		switch {
		case err == nil && says != "":
			t.Errorf("%s was accepted", dsn)
		case err != nil && (!strings.Contains(err.Error(), says) || strings.Contains(err.Error(), secret)):
			t.Errorf("%s: %v", dsn, err)
		}
	}
}

// However a target is printed, logged or encoded, the password stays inside.
func TestTargetHidesPassword(t *testing.T) {
	const secret = "hunter2"
	target, err := ParseDSN("clickhouse://u:" + secret + "@h/db")
	must(t, err)
	for _, target := range []*Target{target, target.WithPassword(secret)} {
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("m", "target", target)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "target", target, "in", []any{target})
		enc, err := json.Marshal(map[string]any{"t": target})
		must(t, err)
		all := log.String() + string(enc) + fmt.Sprintf("%v %+v %#v %s %q %x", target, target, target, target, target, target)
		if strings.Contains(all, secret) || strings.Contains(all, fmt.Sprintf("%x", secret)) {
			t.Errorf("the password appears in %s", all)
		}
		if !strings.Contains(all, "clickhouse://u@h:9000/db") {
			t.Errorf("the target does not appear in %s", all)
		}
	}
}

func TestErrorsHidePasswords(t *testing.T) {
	target, err := ParseDSN("http://u@h/db")
	must(t, err)
	target = target.WithPassword("a b/c+d")
	for _, cause := range []error{
		errors.New(`dial "a b/c+d"`),
		&url.Error{Op: "Post", URL: "http://u:a%20b%2Fc+d@h/?password=a+b%2Fc%2Bd", Err: errors.New("EOF with dTphIGIvYytk")},
		&driver.Exception{Code: codeAccessDenied, Message: "u: a b/c+d not allowed"},
	} {
		got := target.wrap("try", cause).Error()
		for _, form := range []string{"a b/c+d", "a%20b%2Fc+d", "a+b%2Fc%2Bd", "dTphIGIvYytk"} {
			if strings.Contains(got, form) {
				t.Errorf("%q appears in %q", form, got)
			}
		}
	}
	for code, says := range map[int32]string{
		codeUnknownTable: "wattline ddl --apply", codeAccessDenied: "GRANT", codeTooManyParts: "overloaded", codeDiskFull: "disk is full",
		codeTableReadOnly: "replication", codeUnknownSetting: "25.8", codeAuthentication: "refused user",
	} {
		err := target.wrap("try", &driver.Exception{Code: code, Message: "m"})
		var e *Error
		if !errors.As(err, &e) || e.Code != code || !strings.Contains(err.Error(), says) {
			t.Errorf("code %d: %v", code, err)
		}
	}
	if target.wrap("try", nil) != nil {
		t.Error("no error became one")
	}
}

// A user's own statement that names what is not there says nothing about the schema, and needs no GRANT.
func TestExplain(t *testing.T) {
	target, err := ParseDSN("http://u@h/db")
	must(t, err)
	target = target.WithPassword("s3cret")
	for code, says := range map[int32]string{
		codeUnknownIdent: "DESCRIBE requests", codeNoSuchColumn: "tables: requests", codeReadOnly: "this connection only reads: use SELECT",
		codeUnknownDatabase: "wattline ddl --apply", codeUnknownTable: "wattline ddl --apply", codeAuthentication: "refused user",
	} {
		err := target.Explain("query", &driver.Exception{Code: code, Message: "about nope and s3cret"})
		var e *Error
		if !errors.As(err, &e) || e.Code != code || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "about nope") || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "GRANT") {
			t.Errorf("code %d: %v", code, err)
		}
	}
	if target.Explain("query", nil) != nil {
		t.Error("no error became one")
	}
}

func TestPasswordSources(t *testing.T) {
	dir := t.TempDir()
	file, empty := filepath.Join(dir, "p"), filepath.Join(dir, "empty")
	must(t, os.WriteFile(file, []byte("from file \r\n"), 0o600))
	must(t, os.WriteFile(empty, []byte("\n"), 0o600))
	expect := func(file, want string, fails bool) {
		t.Helper()
		got, err := Password(file)
		if got != want || (err != nil) != fails {
			t.Errorf("%q, %v; expected %q", got, err, want)
		}
	}
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	expect("", "", false)
	must(t, os.WriteFile(filepath.Join(dir, "clickhouse-password"), []byte("from credential"), 0o600))
	expect("", "from credential", false)
	t.Setenv(passwordEnv, "from environment")
	expect("", "from environment", false)
	expect(file, "from file ", false)
	expect(empty, "", true)
	expect(filepath.Join(dir, "none"), "", true)
}

// ca_file trusts a certificate that the system does not, and only then is the server believed.
func TestCAFile(t *testing.T) {
	w := newWorld(t, chtest.Options{TLS: true})
	ca := filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.srv.Certificate().Raw}), 0o600))
	for dsn, trusted := range map[string]bool{
		w.srv.DSN(w.db): false, w.srv.DSN(w.db) + "?ca_file=" + ca: true,
		w.srv.NativeDSN(w.db): false, w.srv.NativeDSN(w.db) + "&ca_file=" + ca: true,
	} {
		c, err := Open(w.target(dsn))
		must(t, err)
		_, err = c.inspect(t.Context())
		if (err == nil) != trusted {
			t.Errorf("%s: %v", dsn, err)
		}
		must(t, c.Close())
	}
}
