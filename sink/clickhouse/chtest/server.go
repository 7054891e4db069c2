package chtest

import (
	"cmp"
	"context"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Options of a Server. The zero value is a server without TLS and with one user, default, without a password.
type Options struct {
	// Users maps names to passwords. Nil means {"default": ""}.
	Users map[string]string
	// TLS serves both protocols over TLS with a certificate that Server.Certificate signs.
	TLS bool
	// NativeAddr is where the native protocol listens: 127.0.0.1 and any free port if empty.
	NativeAddr string
}

// Server answers ClickHouse's HTTP interface and its native protocol on two loopback ports, which stay
// the same for its life. Several servers may share an engine; each has its own faults and users.
type Server struct {
	engine *Engine
	opts   Options
	log    func(format string, args ...any)
	tls    *tls.Config // nil without Options.TLS
	cert   *x509.Certificate
	faults faults

	httpAddr, nativeAddr string // assigned once in NewServer

	mu       sync.Mutex // guards what follows
	http     *http.Server
	native   *nativeServer
	sessions map[string]*httpSession
}

// NewServer serves the engine until the test ends.
func NewServer(t testing.TB, e *Engine, o Options) *Server {
	t.Helper()
	if o.Users == nil {
		o.Users = map[string]string{"default": ""}
	}
	s := &Server{engine: e, opts: o, log: t.Logf, httpAddr: FreeAddr(t), nativeAddr: cmp.Or(o.NativeAddr, FreeAddr(t)), sessions: map[string]*httpSession{}}
	s.faults.tried = map[FaultKind]int{}
	if o.TLS {
		s.borrowCertificate()
	}
	if err := s.listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Refuse)
	return s
}

// borrowCertificate takes the certificate for 127.0.0.1 that net/http's own tests use.
func (s *Server) borrowCertificate() {
	h := httptest.NewTLSServer(http.NotFoundHandler())
	defer h.Close()
	s.tls = &tls.Config{Certificates: h.TLS.Certificates, MinVersion: tls.VersionTLS12}
	s.cert = h.Certificate()
}

// Certificate is the one that a client of a TLS server must trust.
func (s *Server) Certificate() *x509.Certificate { return s.cert }

// ClientTLS is a client's configuration that trusts the server's certificate.
func (s *Server) ClientTLS() *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(s.cert)
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}

// HTTPAddr and NativeAddr are the host:port of the two protocols.
func (s *Server) HTTPAddr() string { return s.httpAddr }

// NativeAddr is the host:port of the native protocol.
func (s *Server) NativeAddr() string { return s.nativeAddr }

// Engine is the engine behind the server.
func (s *Server) Engine() *Engine { return s.engine }

// DSN addresses the server by HTTP as user default without a password. database may be empty.
func (s *Server) DSN(database string) string {
	scheme := "http"
	if s.tls != nil {
		scheme = "https"
	}
	return (&url.URL{Scheme: scheme, User: url.User("default"), Host: s.httpAddr, Path: "/" + database}).String()
}

// NativeDSN addresses the server by the native protocol as user default without a password.
func (s *Server) NativeDSN(database string) string {
	u := url.URL{Scheme: "clickhouse", User: url.User("default"), Host: s.nativeAddr, Path: "/" + database}
	if s.tls != nil {
		u.RawQuery = "secure=true"
	}
	return u.String()
}

// listen opens both ports, the same ones after a Refuse.
func (s *Server) listen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	httpL, err := s.listener(s.httpAddr)
	if err != nil {
		return err
	}
	nativeL, err := s.listener(s.nativeAddr)
	if err != nil {
		_ = httpL.Close()
		return err
	}
	s.httpAddr, s.nativeAddr = httpL.Addr().String(), nativeL.Addr().String()
	s.http = &http.Server{Handler: http.HandlerFunc(s.serveHTTP), ErrorLog: log.New(io.Discard, "", 0)} //nolint:gosec // loopback, tests only: no slow clients to fend off
	s.native = newNativeServer(s)
	go func(srv *http.Server) { _ = srv.Serve(httpL) }(s.http) // ends with Refuse's Close
	go s.native.serve(nativeL)                                 // ends with Refuse's close
	return nil
}

func (s *Server) listener(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr) //nolint:noctx // loopback
	if err != nil {
		return nil, fmt.Errorf("chtest: %w", err)
	}
	if s.tls != nil {
		l = tls.NewListener(l, s.tls)
	}
	return l, nil
}

// Refuse closes both ports and cuts every connection, as a stopped server does. Inserts that the engine
// is executing may still commit.
func (s *Server) Refuse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.http == nil {
		return
	}
	_ = s.http.Close()
	s.native.close()
	s.http, s.native = nil, nil
	for id, h := range s.sessions {
		h.close()
		delete(s.sessions, id)
	}
}

// Accept opens the ports again.
func (s *Server) Accept() error {
	err := s.listen()
	// Another process's outgoing connection may hold the port for a moment.
	for i := 0; i < 100 && errors.Is(err, syscall.EADDRINUSE); i++ {
		time.Sleep(100 * time.Millisecond)
		err = s.listen()
	}
	return err
}

// authenticate returns ClickHouse's own exception for a wrong user or password.
func (s *Server) authenticate(user, password string) error {
	want, ok := s.opts.Users[user]
	if ok && subtle.ConstantTimeCompare([]byte(want), []byte(password)) == 1 {
		return nil
	}
	return &Exception{"Code: 516. DB::Exception: " + user + ": Authentication failed: password is incorrect, or there is no user with that name. (AUTHENTICATION_FAILED)"}
}

// request is one query as either protocol brings it.
type request struct {
	query    string
	data     []byte // an INSERT's rows, in the format that the query names
	database string
	settings map[string]string
	params   map[string]string
	format   string // of the result
}

// execute runs the request in the session, under the fault that is planned for it. errCut means: close
// the connection without an answer.
func (s *Server) execute(ctx context.Context, ses *session, r request) ([]byte, error) {
	if len(r.data) == 0 {
		return s.runPlain(ctx, ses, r)
	}
	f := s.faults.next()
	switch f.Kind {
	case CutBefore:
		return nil, errCut
	case HangBefore:
		<-ctx.Done()
		return nil, errCut
	case Late:
		s.executeLate(r, f)
		return nil, errCut
	case Kill:
		s.killDuring(ctx, ses, r, f)
		return nil, errCut
	}
	out, err := s.runPlain(ctx, ses, r)
	switch f.Kind {
	case CutAfter:
		return nil, errCut
	case HangAfter:
		<-ctx.Done()
		return nil, errCut
	}
	return out, err
}

// report logs unexpected errors: faults of this package or of the client's framing. Exceptions, planned faults and closed
// connections are expected.
func (s *Server) report(err error) {
	if _, ok := errors.AsType[*Exception](err); err == nil || ok || // the client has been told
		errors.Is(err, errCut) || errors.Is(err, ErrDown) || errors.Is(err, io.EOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, context.Canceled) || errors.Is(err, syscall.ECONNRESET) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.http != nil { // the test still runs
		s.log("chtest: %v", err)
	}
}

// errCut asks the protocol to close the connection without an answer.
var errCut = errors.New("chtest: cut by a planned fault")

func (s *Server) runPlain(ctx context.Context, ses *session, r request) ([]byte, error) {
	if err := ses.prepare(ctx, r); err != nil {
		return nil, err
	}
	if len(r.data) == 0 {
		return ses.run(ctx, r.format, []byte(r.query))
	}
	m := insertFormatRE.FindStringSubmatch(r.query)
	if m == nil { // VALUES: the data is text
		return ses.run(ctx, r.format, append([]byte(r.query+"\n"), r.data...))
	}
	// The engine would take data that follows the text for text and end it at the first empty line.
	file, err := s.engine.stage(r.data)
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(file) }()
	return ses.run(ctx, r.format, []byte(m[1]+" FROM INFILE "+quoteString(file)+" COMPRESSION 'none' "+m[2]+" FORMAT "+m[3]))
}

// insertFormatRE splits an INSERT into what comes before its settings, these, and the format of its data.
var insertFormatRE = regexp.MustCompile(`(?is)^(\s*INSERT\s+INTO\s+\S+?\s*(?:\([^()]*\))?)\s*(SETTINGS\s.*?)?\s*FORMAT\s+(\w+)\s*$`)

// prepare gives the session the request's database, settings and parameters.
func (ses *session) prepare(ctx context.Context, r request) error {
	if r.database != "" {
		if _, err := ses.run(ctx, "Null", []byte("USE "+quoteName(r.database))); err != nil {
			return err
		}
	}
	for k, v := range r.settings {
		if _, err := ses.run(ctx, "Null", []byte("SET "+quoteName(k)+" = "+quoteString(v))); err != nil {
			return err
		}
	}
	for k, v := range r.params {
		if _, err := ses.run(ctx, "Null", []byte("SET param_"+k+" = "+quoteString(v))); err != nil {
			return err
		}
	}
	return nil
}
