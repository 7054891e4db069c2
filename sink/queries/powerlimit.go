package queries

import (
	"context"
	"errors"
)

// PowerLimit is what requests under one power limit used.
type PowerLimit struct {
	Model           string
	Watts           float64
	Requests        int64
	JoulesPerToken  float64 // sum of joules ÷ sum of output tokens
	TokensPerSecond float64 // median over requests: output tokens ÷ duration
}

const powerLimits = `SELECT coalesce(model, '-') AS of_model, gpu_power_limit_mw / 1e3 AS watts, count(*), sum(gpu_uj) / 1e6 / sum(output_tokens), {{quantile "0.5" "output_tokens * 1e6 / duration_us"}}
FROM requests WHERE gpu_power_limit_mw IS NOT NULL AND gpu_uj IS NOT NULL AND output_tokens > 0 AND duration_us > 0 AND energy_source NOT LIKE 'sim/%'
GROUP BY of_model, watts ORDER BY of_model, watts`

// PowerLimits are the limits that an engine has requests of, by model.
func PowerLimits(ctx context.Context, e *Engine) (out []PowerLimit, err error) {
	text, err := render(e.Dialect, "power limits", powerLimits, nil)
	if err != nil {
		return nil, err
	}
	rows, err := e.DB.QueryContext(ctx, text)
	if err != nil {
		return nil, e.Explain(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var p PowerLimit
		if err := rows.Scan(&p.Model, &p.Watts, &p.Requests, &p.JoulesPerToken, &p.TokensPerSecond); err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, rows.Err()
}
