package chtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"

	"github.com/ClickHouse/ch-go/compress"
	chproto "github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/proto"
)

// nativeServer accepts connections of the native protocol.
type nativeServer struct {
	srv    *Server
	ctx    context.Context //nolint:containedctx // ends every connection's queries at close
	cancel context.CancelFunc

	mu       sync.Mutex // guards what follows
	closed   bool
	listener net.Listener
	conns    map[net.Conn]struct{}
}

func newNativeServer(s *Server) *nativeServer {
	n := &nativeServer{srv: s, conns: map[net.Conn]struct{}{}}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	return n
}

func (n *nativeServer) serve(l net.Listener) {
	n.mu.Lock()
	n.listener = l
	closed := n.closed
	n.mu.Unlock()
	if closed {
		_ = l.Close()
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go n.serveConn(conn) // ends when either side closes the connection
	}
}

// close stops accepting and cuts every connection.
func (n *nativeServer) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	n.cancel()
	if n.listener != nil {
		_ = n.listener.Close()
	}
	for c := range n.conns {
		_ = c.Close()
	}
}

func (n *nativeServer) add(c net.Conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.closed {
		n.conns[c] = struct{}{}
	}
	return !n.closed
}

func (n *nativeServer) serveConn(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	if !n.add(conn) {
		return
	}
	defer func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.conns, conn)
	}()
	c := &nativeConn{srv: n.srv, conn: conn, r: chproto.NewReader(conn)}
	if err := c.hello(); err != nil {
		n.srv.report(err)
		return
	}
	ses, err := n.srv.engine.session()
	if err != nil {
		return
	}
	defer ses.close()
	c.session = ses
	for err == nil {
		err = c.packet(n.ctx)
	}
	n.srv.report(err)
}

// nativeConn is one connection: one session, one query at a time.
type nativeConn struct {
	srv      *Server
	conn     net.Conn
	r        *chproto.Reader
	session  *session
	database string
	revision uint64 // the smaller of the client's and ours
}

func (c *nativeConn) send(b *chproto.Buffer) error {
	_, err := c.conn.Write(b.Buf)
	return err
}

// hello answers the client's greeting, or refuses it with an exception.
func (c *nativeConn) hello() error {
	code, err := c.r.UVarInt()
	if err != nil || code != proto.ClientHello {
		return fmt.Errorf("chtest: expected a hello packet, got %d: %w", code, err)
	}
	var h chproto.ClientHello
	if err := h.Decode(c.r); err != nil {
		return err
	}
	if err := c.srv.authenticate(h.User, h.Password); err != nil {
		_ = c.exception(err.Error())
		return err
	}
	c.database, c.revision = h.Database, min(uint64(h.ProtocolVersion), revision)
	var b chproto.Buffer
	(&chproto.ServerHello{
		Name: "ClickHouse", Major: 26, Minor: 5, Patch: 3, Revision: revision, Timezone: "UTC", DisplayName: "chtest",
	}).EncodeAware(&b, int(c.revision))
	if err := c.send(&b); err != nil {
		return err
	}
	if c.revision >= proto.DBMS_MIN_PROTOCOL_VERSION_WITH_ADDENDUM {
		_, err = c.r.Str() // quota key
	}
	return err
}

// packet serves one packet of the client. An error ends the connection.
func (c *nativeConn) packet(ctx context.Context) error {
	code, err := c.r.UVarInt()
	if err != nil {
		return err
	}
	switch code {
	case proto.ClientPing:
		return c.send(&chproto.Buffer{Buf: []byte{proto.ServerPong}})
	case proto.ClientQuery:
		return c.query(ctx)
	case clientTablesStatus:
		return c.tablesStatus()
	}
	return fmt.Errorf("chtest: unexpected packet %d", code)
}

// Packets that another ClickHouse sends and clickhouse-go never does: whether tables lag behind, and scalars.
const (
	clientTablesStatus = 5
	clientScalar       = 7
	serverTablesStatus = 9
)

// tablesStatus answers that every table is there and none is replicated.
func (c *nativeConn) tablesStatus() error {
	n, err := c.r.UVarInt()
	if err != nil {
		return err
	}
	var b chproto.Buffer
	b.PutByte(serverTablesStatus)
	b.PutUVarInt(n)
	for range n {
		for range 2 { // database and table
			name, err := c.r.Str()
			if err != nil {
				return err
			}
			b.PutString(name)
		}
		b.PutBool(false)
	}
	return c.send(&b)
}

var (
	// An INSERT with rows that follow as blocks: up to its format, the table, the columns.
	insertRE      = regexp.MustCompile(`(?is)^(\s*INSERT\s+INTO\s+(\S+?)\s*(?:\(([^()]*)\))?\s*(?:SETTINGS\s.*)?)(?:FORMAT\s+Native|VALUES)?\s*$`)
	selectRE      = regexp.MustCompile(`(?is)^\s*(SELECT|WITH)\s`)
	errDisconnect = errors.New("chtest: the client broke the protocol")
)

func (c *nativeConn) query(ctx context.Context) error {
	q, err := readQuery(c.r, c.revision)
	if err != nil {
		return err
	}
	compressed := q.compressed
	if _, err := c.readData(compressed); err != nil { // the empty block that ends the external tables
		return err
	}
	req := request{query: q.body, database: c.database, settings: q.settings, params: q.params, format: "Native"}
	if m := insertRE.FindStringSubmatch(q.body); m != nil {
		data, err := c.receiveRows(ctx, req, m[2], m[3], compressed)
		if err != nil || data == nil {
			return err
		}
		req.query, req.data = m[1]+" FORMAT Native", data
	}
	out, err := c.srv.execute(ctx, c.session, req)
	var header *block
	if err == nil && selectRE.MatchString(q.body) {
		header, err = c.describe(ctx, req, q.body)
	}
	if err := c.resetSettings(ctx, req); err != nil {
		return err
	}
	return c.reply(header, out, err, compressed)
}

// resetSettings undoes what the request's settings did to the session: over this protocol they belong to one query.
func (c *nativeConn) resetSettings(ctx context.Context, req request) error {
	for k := range req.settings {
		if _, err := c.session.run(ctx, "Null", []byte("SET "+quoteName(k)+" = DEFAULT")); errors.Is(err, ErrDown) {
			return err
		}
	}
	return nil
}

// reply ends a query: with an exception, or with the empty block that names the columns (where the query
// has any), the blocks that the engine returned at revision 0, and the end mark.
func (c *nativeConn) reply(header *block, out []byte, err error, compressed bool) error {
	if e, ok := errors.AsType[*Exception](err); ok {
		return c.exception(e.Text)
	}
	if err != nil {
		return err
	}
	if header != nil {
		if err := c.sendBlock(header, compressed); err != nil {
			return err
		}
	}
	if err := eachBlock(out, 0, func(b *block) error { return c.sendBlock(b, compressed) }); err != nil {
		return c.exception("Code: 1001. DB::Exception: chtest: " + err.Error() + " (STD_EXCEPTION)")
	}
	return c.send(&chproto.Buffer{Buf: []byte{proto.ServerEndOfStream}})
}

// receiveRows offers the table's columns and collects the blocks that follow, at revision 0. Nil data and
// nil error: the table refused, or the client sent no rows, and has been told.
func (c *nativeConn) receiveRows(ctx context.Context, req request, table, columns string, compressed bool) ([]byte, error) {
	if strings.TrimSpace(columns) == "" {
		columns = "*"
	}
	header, err := c.describe(ctx, req, "SELECT "+columns+" FROM "+table)
	if err != nil {
		return nil, c.reply(nil, nil, err, compressed)
	}
	// A server announces the columns' defaults before the empty block that names them.
	var b chproto.Buffer
	b.PutByte(proto.ServerTableColumns)
	b.PutString("")
	b.PutString("columns format version: 1\n0 columns:\n")
	if err := c.send(&b); err != nil {
		return nil, err
	}
	if err := c.sendBlock(header, compressed); err != nil {
		return nil, err
	}
	var rows []byte
	for {
		in, err := c.readData(compressed)
		if err != nil {
			return nil, err
		}
		if in.Rows() == 0 {
			break
		}
		raw, err := encodeBlock(in, 0)
		if err != nil {
			return nil, err
		}
		rows = append(rows, raw...)
	}
	if rows == nil {
		return nil, c.reply(nil, nil, nil, compressed)
	}
	return rows, nil
}

// describe asks the engine for the names and types of a query's columns and returns them as an empty block.
func (c *nativeConn) describe(ctx context.Context, req request, query string) (*block, error) {
	req.query, req.data, req.format = "DESCRIBE ("+strings.TrimRight(query, " \n\t;")+"\n)", nil, "TabSeparatedRaw"
	out, err := c.srv.runPlain(ctx, c.session, req)
	if err != nil {
		return nil, err
	}
	b := newBlock()
	for line := range strings.Lines(string(out)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 3)
		if err := b.AddColumn(f[0], column.Type(f[1])); err != nil {
			return nil, fmt.Errorf("chtest: column %s: %w", f[0], err)
		}
	}
	return b, nil
}

// readData reads a data packet: its code, the table's name and the block. Scalars, which another ClickHouse
// sends before a query's first data packet and which only its own rewritten queries use, are passed over.
func (c *nativeConn) readData(compressed bool) (*block, error) {
	for {
		code, err := c.r.UVarInt()
		if err != nil || (code != proto.ClientData && code != clientScalar) {
			return nil, fmt.Errorf("chtest: expected a data packet, got %d: %w", code, errors.Join(err, errDisconnect))
		}
		b, err := c.readBlock(compressed)
		if err != nil || code == proto.ClientData {
			return b, err
		}
	}
}

func (c *nativeConn) readBlock(compressed bool) (*block, error) {
	if _, err := c.r.Str(); err != nil { // the table's name
		return nil, err
	}
	if compressed {
		c.r.EnableCompression()
		defer c.r.DisableCompression()
	}
	b := newBlock()
	return b, b.Decode(c.r, c.revision)
}

func (c *nativeConn) sendBlock(b *block, compressed bool) error {
	raw, err := encodeBlock(b, c.revision)
	if err != nil {
		return err
	}
	if compressed {
		w := compress.NewWriter(compress.LevelZero, compress.LZ4)
		if err := w.Compress(raw); err != nil {
			return err
		}
		raw = w.Data
	}
	var buf chproto.Buffer
	buf.PutByte(proto.ServerData)
	buf.PutString("") // the table's name
	buf.PutRaw(raw)
	return c.send(&buf)
}

func (c *nativeConn) exception(text string) error {
	var b chproto.Buffer
	b.PutByte(proto.ServerException)
	b.PutInt32(int32(exceptionCode(text)))
	b.PutString("DB::Exception")
	b.PutString(strings.TrimSpace(exceptionCodeRE.ReplaceAllString(text, "")))
	b.PutString("") // stack trace
	b.PutBool(false)
	return c.send(&b)
}
