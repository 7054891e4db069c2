package serving

import (
	"context"
	"fmt"
	"sync"
	"time"

	"wattline/sink/clickhouse"
	"wattline/sink/store"
)

// RetentionFlags set how long rows stay in the store, and the ClickHouse to copy them to.
type RetentionFlags struct {
	Clickhouse             string        `help:"Copy the rows to this ClickHouse: clickhouse://USER@HOST/DATABASE or http://... Default: none." placeholder:"DSN" group:"Rows"`
	ClickhousePasswordFile string        `help:"File with the password. Default: ${clickhouse_password}." placeholder:"FILE" group:"Rows"`
	KeepRequests           time.Duration `help:"How long to keep requests in the store." default:"${keep_requests}" group:"Rows"`
	KeepSamples            time.Duration `help:"How long to keep power and ledger rows per second; older ones are kept per minute." default:"${keep_samples}" group:"Rows"`
	KeepGaps               time.Duration `help:"How long to keep the gaps between the output events of each stream (table itl_gaps). ClickHouse drops them after 7 days. 0: do not record gaps." default:"0s" group:"Rows"`
	KeepPrompts            time.Duration `help:"How long to keep the fingerprints of prompts (keyed hashes, no text), by which lost caches are explained also after a restart. They are not copied to ClickHouse. 0: none." default:"${keep_prompts}" group:"Rows"`
	MaxStoreBytes          int64         `help:"Maximum size of the store. Above it the oldest rows are deleted; those not yet copied to ClickHouse are counted as lost." default:"${max_store_bytes}" group:"Rows"`
}

// checkRetention rejects values that would keep no rows.
func (f *RetentionFlags) checkRetention() error {
	for _, c := range []struct {
		flag string
		low  bool
		hint string
	}{
		{"--keep-requests", f.KeepRequests <= 0, "give a duration such as 720h"},
		{"--keep-samples", f.KeepSamples <= 0, "give a duration such as 24h"},
		{"--keep-gaps", f.KeepGaps < 0, "give a duration such as 24h, or 0 for none"},
		{"--keep-prompts", f.KeepPrompts < 0, "give a duration such as 24h, or 0 for none"},
		{"--max-store-bytes", f.MaxStoreBytes < minStoreBytes, fmt.Sprintf("the minimum is %d, because an empty store takes a hundred kilobytes", minStoreBytes)},
	} {
		if c.low {
			return usageError("%s is too small: %s", c.flag, c.hint)
		}
	}
	return nil
}

// minStoreBytes is the smallest size limit that leaves room for rows.
const minStoreBytes = 1 << 20

// retention deletes old rows from the store and copies new ones to ClickHouse, in the background.
type retention struct {
	client *clickhouse.Client // nil: nothing is shipped
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// startRetention starts the background work. It begins when the store is open, which an upgrade may delay. stop ends it.
func startRetention(h *Host, r *Rows, f *RetentionFlags) (*retention, error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(h.Ctx))
	k := &retention{cancel: cancel}
	if h.Ship != nil {
		var err error
		if k.client, err = clickhouse.Open(h.Ship); err != nil {
			cancel()
			return nil, err
		}
	}
	limits := store.Retention{Requests: f.KeepRequests, Samples: f.KeepSamples, Gaps: f.KeepGaps, Prompts: store.KeepFor(f.KeepPrompts), MaxBytes: f.MaxStoreBytes, Shipping: h.Ship != nil}
	k.wg.Go(func() {
		select {
		case <-r.store.Opened():
			r.store.Store().RunRetention(ctx, limits)
		case <-ctx.Done():
		}
	})
	if h.Ship == nil {
		return k, nil
	}
	k.wg.Go(func() {
		select {
		case <-r.store.Opened():
			shipper := clickhouse.NewShipper(clickhouse.Config{Client: k.client, Outbox: r.store.Store(), Instance: r.instance, Log: h.Log})
			_ = shipper.Run(ctx) // always nil
		case <-ctx.Done():
		}
	})
	conflict := &clickhouse.InstanceConflict{Client: k.client, Instance: r.instance, Since: time.Now(), MissingIDs: r.Reader.MissingIDs, Log: h.Log}
	k.wg.Go(func() { conflict.Run(ctx) })
	return k, nil
}

// stop ends the background work and waits for it. Rows that are not shipped stay in the store.
func (k *retention) stop() error {
	k.cancel()
	k.wg.Wait()
	if k.client == nil {
		return nil
	}
	defer func() { k.client = nil }()
	return k.client.Close()
}
