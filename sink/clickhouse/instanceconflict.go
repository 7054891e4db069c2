package clickhouse

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// InstanceConflict notices another wattline that ships under this one's instance name: rows of that name are in
// ClickHouse which this one's store never held. Nobody could tell the two apart afterwards.
type InstanceConflict struct {
	Client   *Client
	Instance string
	// Since is when this wattline began: older rows may be those of a store that was since replaced.
	Since time.Time
	// MissingIDs returns those of the ids that the store does not hold.
	MissingIDs func(ctx context.Context, ids []string) ([]string, error)
	Log        *slog.Logger
}

const (
	conflictFirst = time.Minute
	conflictEvery = 10 * time.Minute
	conflictBack  = time.Hour // rows older than this may have left a small store
	conflictRows  = 200
)

// Run looks a minute after the start and then every ten, until ctx ends. A database that does not answer
// is the Shipper's to tell of.
func (n *InstanceConflict) Run(ctx context.Context) {
	pause := conflictFirst
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = conflictEvery
		strangers, err := n.Check(ctx)
		if err != nil || len(strangers) == 0 {
			continue
		}
		n.Log.Warn("another wattline ships rows under this one's name: give each its own --instance, or their rows cannot be told apart",
			"instance", n.Instance, "its_rows", len(strangers), "one_of_them", strangers[0])
	}
}

// Check returns the ids of recent requests in ClickHouse that have the instance's name and are not in the
// store, at most 200.
func (n *InstanceConflict) Check(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, n.Client.countTimeout)
	defer cancel()
	since := n.Since
	if back := time.Now().Add(-conflictBack); back.After(since) {
		since = back
	}
	var ids []string
	err := n.Client.each(ctx, fmt.Sprintf("SELECT id FROM %s.requests WHERE instance = %s AND started_at >= %s ORDER BY started_at DESC LIMIT %d",
		name(n.Client.target.database), quote(n.Instance), literal(since), conflictRows), func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		ids = append(ids, id)
		return err
	})
	if err != nil || len(ids) == 0 {
		return nil, n.Client.target.wrap("look for another wattline of the same name", err)
	}
	return n.MissingIDs(ctx, ids)
}
