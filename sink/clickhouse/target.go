package clickhouse

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	driver "github.com/ClickHouse/clickhouse-go/v2"
)

// DefaultDatabase is used where a DSN names none.
const DefaultDatabase = "wattline"

// Target is a ClickHouse server with user and options. It prints without its password, also with %+v and in logs.
type Target struct {
	options  *driver.Options // Auth.Database is empty: our statements name the database
	database string
	secret   string // the password, to remove it from errors
}

// ParseDSN reads a DSN:
//
//	clickhouse://USER@HOST[:9000][,HOST2[:PORT]]/DATABASE[?secure=true&...]   native protocol (also tcp://)
//	http://USER@HOST[:8123]/DATABASE, https://USER@HOST[:8443]/DATABASE      HTTP
//
// Several hosts are tried in order, or as connection_open_strategy=round_robin|random says. secure=true is
// TLS for the native protocol (port 9440 by default). ca_file=FILE trusts a certificate authority's PEM
// file instead of the system's, tls_server_name=NAME and skip_verify=true are as in the Go driver. compress=lz4,
// zstd or none; native connections use lz4 by default. Other parameters are ClickHouse settings.
//
// A password may be part of the DSN (see HasPassword) or be set with WithPassword. No returned error contains it.
func ParseDSN(dsn string) (*Target, error) {
	dsn, caFile, err := complete(dsn)
	if err != nil {
		return nil, err
	}
	o, err := driver.ParseDSN(dsn) // redacts what it cites
	if err != nil {
		return nil, fmt.Errorf("clickhouse: the DSN cannot be read: %w", err)
	}
	t := &Target{options: o, database: o.Auth.Database, secret: o.Auth.Password}
	if t.database == "" {
		t.database = DefaultDatabase
	}
	if o.Auth.Username == "" {
		o.Auth.Username = "default"
	}
	o.Auth.Database = ""
	if o.Compression == nil && o.Protocol == driver.Native {
		o.Compression = &driver.Compression{Method: driver.CompressionLZ4}
	}
	addPorts(o)
	o.DialTimeout = orDefault(o.DialTimeout, 10*time.Second)
	o.ConnMaxLifetime = orDefault(o.ConnMaxLifetime, 5*time.Minute)
	o.ClientInfo.Products = append(o.ClientInfo.Products, struct{ Name, Version string }{"wattline", ""})
	if caFile != "" {
		if err := t.trust(caFile); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// complete checks the scheme, which the driver does not, makes https mean TLS, and removes our own parameter ca_file.
func complete(dsn string) (completed, caFile string, err error) {
	scheme, rest, ok := strings.Cut(dsn, "://")
	switch {
	case !ok:
		return "", "", errors.New("clickhouse: the DSN must look like clickhouse://USER@HOST:9000/DATABASE or http://USER@HOST:8123/DATABASE")
	case scheme == "tcp":
		scheme = "clickhouse"
	case scheme != "clickhouse" && scheme != "http" && scheme != "https":
		return "", "", fmt.Errorf("clickhouse: unknown scheme %q in the DSN: use clickhouse, http or https", scheme)
	}
	before, query, _ := strings.Cut(rest, "?")
	params, err := url.ParseQuery(query)
	if err != nil {
		return "", "", errors.New("clickhouse: the parameters of the DSN are not a valid query string")
	}
	if scheme == "https" && !params.Has("secure") {
		params.Set("secure", "true")
	}
	caFile = params.Get("ca_file")
	params.Del("ca_file")
	if len(params) > 0 {
		before += "?" + params.Encode()
	}
	return scheme + "://" + before, caFile, nil
}

// addPorts gives every address without a port the protocol's usual one.
func addPorts(o *driver.Options) {
	port := map[bool]map[driver.Protocol]string{
		false: {driver.Native: "9000", driver.HTTP: "8123"},
		true:  {driver.Native: "9440", driver.HTTP: "8443"},
	}[o.TLS != nil][o.Protocol]
	for i, a := range o.Addr {
		if _, _, err := net.SplitHostPort(a); err != nil {
			o.Addr[i] = net.JoinHostPort(strings.Trim(a, "[]"), port)
		}
	}
}

func orDefault(d, fallback time.Duration) time.Duration {
	if d == 0 {
		return fallback
	}
	return d
}

func (t *Target) trust(caFile string) error {
	if t.options.TLS == nil {
		return errors.New("clickhouse: ca_file needs TLS: use https://, or secure=true with clickhouse://")
	}
	pem, err := os.ReadFile(caFile) //nolint:gosec // the user names it
	if err != nil {
		return fmt.Errorf("clickhouse: ca_file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return fmt.Errorf("clickhouse: ca_file %s holds no certificate in PEM form", caFile)
	}
	t.options.TLS.RootCAs = pool
	t.options.TLS.MinVersion = tls.VersionTLS12
	return nil
}

// HasPassword reports whether the DSN contained a password. On a command line it could be read by every user of the machine:
// refuse it there with ErrPasswordInArguments.
func (t *Target) HasPassword() bool { return t.secret != "" }

// ErrPasswordInArguments is the error for a DSN with a password on the command line.
var ErrPasswordInArguments = errors.New("clickhouse: the DSN on the command line contains a password, which every user of this machine could read: " +
	"leave it out and put it in a file (--clickhouse-password-file), in WATTLINE_CLICKHOUSE_PASSWORD or in the systemd credential clickhouse-password")

// WithPassword returns the target with the password, or unchanged if it is empty.
func (t *Target) WithPassword(password string) *Target {
	if password == "" {
		return t
	}
	o := *t.options
	o.Auth.Password = password
	return &Target{options: &o, database: t.database, secret: password}
}

// Database returns the name of the database.
func (t *Target) Database() string { return t.database }

// String returns the target without its password.
func (t *Target) String() string {
	scheme := "clickhouse"
	if t.options.Protocol == driver.HTTP {
		scheme = "http"
		if t.options.TLS != nil {
			scheme = "https"
		}
	}
	return scheme + "://" + t.options.Auth.Username + "@" + strings.Join(t.options.Addr, ",") + "/" + t.database
}

// Format keeps every verb from printing more than String.
func (t *Target) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, t.String()) }

// LogValue returns the target without its password.
func (t *Target) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalText keeps encoders from looking inside.
func (t *Target) MarshalText() ([]byte, error) { return []byte(t.String()), nil }
