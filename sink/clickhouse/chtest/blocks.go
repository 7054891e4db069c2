package chtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	chproto "github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/proto"
)

// block is the client library's own block: what it encodes to insert and decodes from a result.
type block = proto.Block

// revision is the protocol revision that the server offers, the newest that the client library speaks.
const revision = proto.DBMS_TCP_PROTOCOL_VERSION

func newBlock() *block {
	return &block{ServerContext: &column.ServerContext{Revision: revision, VersionMajor: 26, VersionMinor: 5, Timezone: time.UTC}}
}

// eachBlock decodes the blocks that follow one another in data, each written at the given revision.
func eachBlock(data []byte, revision uint64, f func(*block) error) error {
	r := chproto.NewReader(bytes.NewReader(data))
	for {
		b := newBlock()
		if err := b.Decode(r, revision); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("decode the engine's block: %w", err)
		}
		if err := f(b); err != nil {
			return err
		}
	}
}

// encodeBlock writes a block at the revision. Without rows only names and types are written, as a server
// does: the client's own encoder would add the state of LowCardinality columns, which its decoder skips.
func encodeBlock(b *block, revision uint64) ([]byte, error) {
	var buf chproto.Buffer
	if b.Rows() > 0 {
		if err := b.Encode(&buf, revision); err != nil {
			return nil, fmt.Errorf("encode a block: %w", err)
		}
		return buf.Buf, nil
	}
	if err := b.EncodeHeader(&buf, revision); err != nil {
		return nil, fmt.Errorf("encode a block: %w", err)
	}
	for _, c := range b.Columns {
		buf.PutString(c.Name())
		buf.PutString(string(c.Type()))
		if revision >= proto.DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION {
			buf.PutBool(false)
		}
	}
	return buf.Buf, nil
}
