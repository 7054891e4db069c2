package chtest

import (
	"errors"
	"fmt"

	chproto "github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/proto"
)

// queryPacket holds the fields of a query packet that this server uses.
type queryPacket struct {
	body       string
	settings   map[string]string
	params     map[string]string
	compressed bool
}

// fields reads the packet's fields one after another and remembers the first error.
type fields struct {
	r   *chproto.Reader
	err error
}

func (f *fields) str() (s string) {
	if f.err == nil {
		s, f.err = f.r.Str()
	}
	return s
}

func (f *fields) uvarint() (n uint64) {
	if f.err == nil {
		n, f.err = f.r.UVarInt()
	}
	return n
}

func (f *fields) byte() (b byte) {
	if f.err == nil {
		b, f.err = f.r.Byte()
	}
	return b
}

func (f *fields) skip(n int) {
	if f.err == nil {
		_, f.err = f.r.ReadRaw(n)
	}
}

// readQuery decodes the packet after its code, as clickhouse-go and ClickHouse's own C++ client write it.
// Source: Connection::sendQuery in ClickHouse's src/Client/Connection.cpp.
func readQuery(r *chproto.Reader, revision uint64) (queryPacket, error) {
	f := &fields{r: r}
	q := queryPacket{settings: map[string]string{}, params: map[string]string{}}
	f.str() // query id
	f.clientInfo(revision)
	f.settings(q.settings, func(s string) string { return s })
	if revision >= proto.DBMS_MIN_REVISION_WITH_INTERSERVER_SECRET {
		f.str()
	}
	if stage := f.uvarint(); f.err == nil && stage != proto.StateComplete {
		f.err = fmt.Errorf("a query that asks for stage %d: only complete results can be given", stage)
	}
	q.compressed = f.uvarint() == 1
	q.body = f.str()
	if revision >= proto.DBMS_MIN_PROTOCOL_VERSION_WITH_PARAMETERS {
		f.settings(q.params, unquote)
	}
	if f.err != nil {
		return q, fmt.Errorf("chtest: query packet: %w", f.err)
	}
	return q, nil
}

// settings reads names, flags and values up to the empty name.
func (f *fields) settings(into map[string]string, value func(string) string) {
	for f.err == nil {
		name := f.str()
		if name == "" {
			return
		}
		f.uvarint() // flags
		into[name] = value(f.str())
	}
}

// The interfaces by which a query can have come to the client, as far as their fields differ.
const (
	interfaceTCP  = 1
	interfaceHTTP = 2
)

// clientInfo skips the description of the client. Source: ClientInfo::write in ClickHouse's src/Interpreters/ClientInfo.cpp.
func (f *fields) clientInfo(revision uint64) {
	if f.byte() == proto.ClientQueryNone {
		return
	}
	f.str() // initial user
	f.str() // initial query id
	f.str() // initial address
	if revision >= proto.DBMS_MIN_PROTOCOL_VERSION_WITH_INITIAL_QUERY_START_TIME {
		f.skip(8)
	}
	via := f.byte()
	switch via {
	case interfaceTCP:
		f.str() // user of the operating system
		f.str() // host name
		f.str() // client name
		f.uvarint()
		f.uvarint()
		f.uvarint() // version and revision
	case interfaceHTTP:
		f.err = errors.Join(f.err, errors.New("queries forwarded from HTTP are not supported"))
	}
	f.str()     // quota key
	f.uvarint() // depth of distributed queries
	if via == interfaceTCP {
		f.uvarint() // patch version
	}
	if f.byte() == 1 { // a trace: ids, state, flags
		f.skip(24)
		f.str()
		f.skip(1)
	}
	if revision >= proto.DBMS_MIN_REVISION_WITH_PARALLEL_REPLICAS {
		f.uvarint()
		f.uvarint()
		f.uvarint()
	}
}
