package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"wattline/sink"
)

// migrations lists the steps from version i to version i+1. Each runs in one transaction that also sets user_version. A
// released step is never edited. A new column needs no step: addColumns adds it.
func migrations() []string {
	return []string{schema1, schema2, schema3, schema4, schema5, schema6()}
}

// manyWriters is the version from which on ship_seq is read in each transaction, so that several processes may write.
const manyWriters = 5

// Nothing changes but the version: an older wattline, which takes itself for the only writer, must not open the file.
const schema5 = ""

// A row without a ship_seq may still change. The unique index on ship_seq also serves to find such rows and the rows to ship.
const schema1 = `
CREATE TABLE requests (
	"id" TEXT NOT NULL UNIQUE, "started_at" TEXT NOT NULL, "instance" TEXT, "route" TEXT, "upstream" TEXT,
	"method" TEXT, "path" TEXT, "dialect" TEXT, "model" TEXT, "stream" INTEGER, "status" INTEGER,
	"outcome" TEXT, "finish_reason" TEXT, "error" TEXT, "config_id" TEXT, "client_request_id" TEXT,
	"trace_id" TEXT, "agent" TEXT, "session" TEXT, "user" TEXT, "api_key_id" TEXT, "client_addr" TEXT,
	"labels" TEXT, "ttfb_us" INTEGER, "ttft_us" INTEGER, "ttfo_us" INTEGER, "upstream_ttft_us" INTEGER,
	"duration_us" INTEGER, "queue_us" INTEGER, "prefill_us" INTEGER, "decode_us" INTEGER,
	"itl_p50_us" INTEGER, "itl_p90_us" INTEGER, "itl_p99_us" INTEGER, "itl_max_us" INTEGER, "stalls" INTEGER,
	"write_blocked_us" INTEGER, "proxy_overhead_us" INTEGER, "prompt_tokens" INTEGER, "cached_tokens" INTEGER,
	"output_tokens" INTEGER, "reasoning_tokens" INTEGER, "draft_tokens" INTEGER,
	"draft_accepted_tokens" INTEGER, "max_tokens" INTEGER, "output_events" INTEGER, "token_source" TEXT,
	"messages" INTEGER, "tools" INTEGER, "request_bytes" INTEGER, "response_bytes" INTEGER,
	"mean_concurrency" INTEGER, "gpu_uj" INTEGER, "gpu_active_uj" INTEGER, "gpu_idle_uj" INTEGER,
	"gpu_prefill_uj" INTEGER, "gpu_decode_uj" INTEGER, "gpu_estimate_uj" INTEGER, "gpu_sigma_uj" INTEGER,
	"gpu_active_sigma_uj" INTEGER, "gpu_time_uj" INTEGER, "gpu_token_uj" INTEGER, "energy_quality" TEXT,
	"energy_method" TEXT, "energy_source" TEXT, "cpu_uj" INTEGER, "gpu_mean_mw" INTEGER, "gpu_devices" TEXT,
	"gpu_uj_by_device" TEXT, "gpu_power_limit_mw" INTEGER, "vram_bytes" INTEGER, "ram_bytes" INTEGER,
	"gpu_temp_c" INTEGER, "price_per_kwh_micro" INTEGER, "gco2_per_kwh_milli" INTEGER,
	"details" TEXT,
	ship_seq INTEGER UNIQUE
) STRICT;
CREATE INDEX requests_started_at ON requests (started_at);

CREATE TABLE power (
	"at" TEXT NOT NULL, "instance" TEXT, "device" TEXT NOT NULL, "span_us" INTEGER, "energy_uj" INTEGER,
	"mean_mw" INTEGER, "max_mw" INTEGER, "temp_c" INTEGER, "util_permille" INTEGER, "vram_bytes" INTEGER,
	"sm_clock_mhz" INTEGER, "limit_mw" INTEGER, "throttled_us" INTEGER, "throttle" TEXT, "source" TEXT,
	ship_seq INTEGER NOT NULL UNIQUE,
	UNIQUE (at, device)
) STRICT;

CREATE TABLE ledger (
	"at" TEXT NOT NULL, "instance" TEXT, "device" TEXT NOT NULL, "span_us" INTEGER, "counter_uj" INTEGER,
	"requests_active_uj" INTEGER, "requests_idle_uj" INTEGER, "pools_uj" INTEGER, "idle_uj" INTEGER,
	"residual_uj" INTEGER, "idle_sigma_uj" INTEGER, "source" TEXT,
	ship_seq INTEGER NOT NULL UNIQUE,
	UNIQUE (at, device)
) STRICT;

CREATE TABLE configs (
	"config_id" TEXT NOT NULL UNIQUE, "at" TEXT NOT NULL, "instance" TEXT, "upstream" TEXT,
	"server_build" TEXT, "server_flags" TEXT, "model" TEXT, "quantisation" TEXT, "context_tokens" INTEGER,
	"slots" INTEGER, "gpus" TEXT, "driver" TEXT, "gpu_power_limit_mw" INTEGER, "wattline_version" TEXT,
	ship_seq INTEGER NOT NULL UNIQUE
) STRICT;

-- Numbers that must outlive the rows they count. AUTOINCREMENT would not do: its table may be rolled back.
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO counters VALUES ('ship_seq', 0);
`

// At most one batch is unconfirmed. Its members are the rows of one table whose ship_seq lies in its range; they
// do not change. Counters: shipped_* are the checkpoints (rows above them still wait), lost_* count rows dropped
// above them, and thinned_* is the time (Unix microseconds) up to which rows are downsampled to minutes.
const schema2 = `
CREATE TABLE batches (
	seq INTEGER PRIMARY KEY, token TEXT NOT NULL UNIQUE, of_table TEXT NOT NULL, rows INTEGER NOT NULL,
	first_ship_seq INTEGER NOT NULL, last_ship_seq INTEGER NOT NULL, made_at TEXT NOT NULL,
	sends INTEGER NOT NULL DEFAULT 0, confirmed_at TEXT
) STRICT;
CREATE UNIQUE INDEX batches_one_open ON batches (confirmed_at IS NULL) WHERE confirmed_at IS NULL;
INSERT INTO counters VALUES
	('shipped_requests', 0), ('shipped_power', 0), ('shipped_ledger', 0), ('shipped_configs', 0),
	('lost_requests', 0), ('lost_power', 0), ('lost_ledger', 0),
	('thinned_power', 0), ('thinned_ledger', 0);
`

// How far a power row can be trusted, and readings that version 1 lacked.
const schema3 = `
ALTER TABLE power ADD COLUMN "error_uj" INTEGER;
ALTER TABLE power ADD COLUMN "min_mw" INTEGER;
ALTER TABLE power ADD COLUMN "mem_temp_c" INTEGER;
ALTER TABLE power ADD COLUMN "mem_util_permille" INTEGER;
ALTER TABLE power ADD COLUMN "upstream_vram_bytes" INTEGER;
ALTER TABLE power ADD COLUMN "mem_clock_mhz" INTEGER;
ALTER TABLE power ADD COLUMN "contended" INTEGER;
ALTER TABLE power ADD COLUMN "channel" TEXT;
ALTER TABLE power ADD COLUMN "marked" TEXT;
ALTER TABLE power ADD COLUMN "simulated" INTEGER;
`

// Raw gaps between output events (serve --keep-gaps).
const schema4 = `
CREATE TABLE itl_gaps (
	"id" TEXT NOT NULL UNIQUE, "started_at" TEXT NOT NULL, "instance" TEXT, "gaps_us" TEXT,
	ship_seq INTEGER NOT NULL UNIQUE
) STRICT;
CREATE INDEX itl_gaps_started_at ON itl_gaps (started_at);
INSERT INTO counters VALUES ('shipped_itl_gaps', 0), ('lost_itl_gaps', 0);
`

// fileVersion returns a file's version; 0 where it cannot be read.
func fileVersion(ctx context.Context, path string) (version int) {
	db, err := openPool(path, readable, nil, readOnly)
	if err != nil {
		return 0
	}
	defer db.Close() //nolint:errcheck // only read
	if db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version) != nil {
		return 0
	}
	return version
}

// schema6 adds blocks (blocks.go), and deletes the block of a row that is deleted.
func schema6() string {
	text := `
CREATE TABLE blocks (
	id INTEGER PRIMARY KEY, of_table TEXT NOT NULL, layout TEXT NOT NULL, rows INTEGER NOT NULL,
	after_ship_seq INTEGER NOT NULL, last_ship_seq INTEGER NOT NULL, first_us INTEGER NOT NULL, last_us INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX blocks_of_table ON blocks (of_table, last_ship_seq);
CREATE TABLE block_columns (id INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT; -- id: the block's * 256 + the column's place
CREATE TRIGGER blocks_deleted AFTER DELETE ON blocks BEGIN
	DELETE FROM block_columns WHERE id BETWEEN old.id * 256 AND old.id * 256 + 255;
END;
`
	for _, table := range []string{TableRequests, TablePower, TableLedger} {
		text += fmt.Sprintf(`
CREATE TRIGGER %[1]s_deleted AFTER DELETE ON %[1]s WHEN old.ship_seq IS NOT NULL BEGIN
	DELETE FROM blocks WHERE after_ship_seq < old.ship_seq AND id = (
		SELECT id FROM blocks WHERE of_table = '%[1]s' AND last_ship_seq >= old.ship_seq ORDER BY last_ship_seq LIMIT 1);
END;
`, table)
	}
	return text
}

// schemaVersion is the version this code writes.
func schemaVersion() int { return len(migrations()) }

// migrate brings the store up to date. It refuses a store of a newer version without changing it.
func migrate(ctx context.Context, conn *sql.Conn, path string, steps []string) error {
	var version int
	if err := conn.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return explain("read the version of", path, err)
	}
	if version > len(steps) {
		return newer(path, version)
	}
	for ; version < len(steps); version++ {
		err := transact(ctx, conn, func() error {
			_, err := conn.ExecContext(ctx, steps[version]+fmt.Sprintf(";PRAGMA user_version = %d", version+1))
			return err
		})
		if err != nil {
			return explain(fmt.Sprintf("bring to version %d", version+1), path, err)
		}
	}
	if err := addColumns(ctx, conn); err != nil {
		return explain("add columns to", path, err)
	}
	if _, err := conn.ExecContext(ctx, createPrompts); err != nil {
		return explain("add table prompts to", path, err)
	}
	return explain("define the view in", path, defineView(ctx, conn))
}

// addColumns adds the columns that the code has and the file lacks. Older versions of wattline ignore them.
func addColumns(ctx context.Context, conn *sql.Conn) error {
	for _, t := range newTables().all() {
		var found string
		err := conn.QueryRowContext(ctx, "SELECT coalesce(group_concat(name), '') FROM pragma_table_info(?)", t.tableName()).Scan(&found)
		if err != nil {
			return err
		}
		for _, column := range t.missingColumns(strings.Split(found, ",")) {
			if _, err := conn.ExecContext(ctx, "ALTER TABLE "+t.tableName()+" ADD COLUMN "+column); err != nil {
				return err
			}
		}
	}
	return nil
}

func newer(path string, version int) error {
	return &Error{Kind: ErrNewer, Path: path, text: fmt.Sprintf(
		"%s has format %d, and this wattline knows none above %d: use the newer wattline that wrote it, or another --store", path, version, schemaVersion())}
}

// defineView creates view efficiency, or replaces it if its text has changed. A view holds no data, so it has no version.
func defineView(ctx context.Context, conn *sql.Conn) error {
	want := efficiencyView()
	var have string
	err := conn.QueryRowContext(ctx, "SELECT coalesce(max(sql), '') FROM sqlite_schema WHERE type = 'view' AND name = 'efficiency'").Scan(&have)
	if err != nil || have == want {
		return err
	}
	return transact(ctx, conn, func() error {
		_, err := conn.ExecContext(ctx, "DROP VIEW IF EXISTS efficiency;"+want)
		return err
	})
}

func efficiencyView() string {
	var b strings.Builder
	b.WriteString("CREATE VIEW efficiency AS SELECT")
	for i, name := range sink.EfficiencyIdentity() {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "\n\t%q", name)
	}
	for _, c := range sink.EfficiencyColumns() {
		fmt.Fprintf(&b, ",\n\t%s AS %q", c.Expr, c.Name)
	}
	b.WriteString("\nFROM requests")
	return b.String()
}

// transact runs f between BEGIN IMMEDIATE and COMMIT, or ROLLBACK when f or the commit fails. A context
// that has ended still gets its rollback.
func transact(ctx context.Context, conn *sql.Conn, f func() error) error {
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		if ctx.Err() != nil { // it may have begun all the same
			_, _ = conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		}
		return err
	}
	err := f()
	if err == nil {
		_, err = conn.ExecContext(ctx, "COMMIT")
	}
	if err != nil {
		// Its own error says nothing new: SQLite may have rolled back already.
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
	}
	return err
}
