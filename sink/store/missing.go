package store

import (
	"context"
	"encoding/json"
)

// MissingIDs returns the ids of which the store has no request.
func (r *Reader) MissingIDs(ctx context.Context, ids []string) (missing []string, err error) {
	list, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	rows, err := r.db.QueryContext(ctx, "SELECT value FROM json_each(?) WHERE value NOT IN (SELECT id FROM requests WHERE id IN (SELECT value FROM json_each(?)))", string(list), string(list))
	if err != nil {
		return nil, explain("read", r.path, err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err has the error
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, explain("read", r.path, err)
		}
		missing = append(missing, id)
	}
	return missing, explain("read", r.path, rows.Err())
}
