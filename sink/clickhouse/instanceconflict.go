package clickhouse

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// InstanceConflict detects another wattline that ships under the same instance name: ClickHouse has recent rows of that name
// that this store does not. Later the rows of the two could not be separated.
type InstanceConflict struct {
	Client   *Client
	Instance string
	// Since is the start of this wattline: older rows may be from a store that was replaced since.
	Since time.Time
	// MissingIDs returns the ids that the store does not have.
	MissingIDs func(ctx context.Context, ids []string) ([]string, error)
	Log        *slog.Logger
}

const (
	conflictFirst = time.Minute
	conflictEvery = 10 * time.Minute
	conflictBack  = time.Hour // a small store may already have deleted older rows
	conflictRows  = 200
)

// Run checks one minute after the start and then every ten minutes, until ctx ends. It ignores errors: the Shipper logs
// those of the database.
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
		n.Log.Warn("another wattline ships rows under this one's name: give each its own --instance, or their rows cannot be separated",
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
