package main

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"wattline/sink/clickhouse"
	"wattline/sink/clickhouse/chtest"
	"wattline/sink/store"
)

// emptied calls empty once everything has been shipped.
type emptied struct {
	*store.Store
	empty func()
}

func (e emptied) NextBatch(ctx context.Context, maxRows int) (*store.Batch, error) {
	b, err := e.Store.NextBatch(ctx, maxRows)
	if b == nil && err == nil {
		e.empty()
	}
	return b, err
}

// TestCompareClickHouse: rows in a real ClickHouse are compared with the same result as in the store that they came from.
func TestCompareClickHouse(t *testing.T) {
	path := storeOf(t, configRows(200, 1.1))
	s, err := store.Open(t.Context(), store.Config{Path: path, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	dsn := chtest.NewServer(t, engine.Engine(t), chtest.Options{}).DSN("compared")
	target, err := clickhouse.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	client, err := clickhouse.Open(target)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := client.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := clickhouse.NewShipper(clickhouse.Config{Client: client, Outbox: emptied{s, cancel}, Interval: 10 * time.Millisecond}).Run(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	here := answer(t, "compare", "config:aaaa", "config:bbbb", "--store", path, "--format", "markdown")
	there := answer(t, "compare", "config:aaaa", "config:bbbb", "--clickhouse", dsn, "--format", "markdown")
	if here != there || !strings.Contains(here, "**worse**") {
		t.Errorf("the store says\n%s\nClickHouse says\n%s", here, there)
	}
	cmd := command(t, "compare", "config:aaaa", "config:cccc", "--clickhouse", dsn)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "has no request of config:cccc") {
		t.Errorf("%v: %s", err, out)
	}
}
