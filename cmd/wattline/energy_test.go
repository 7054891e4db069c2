package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"wattline/meter"
	"wattline/proxy/llamatest"
	"wattline/sink/store"
)

// TestEnergyEndToEnd: a simulated GPU, a real llama-server, requests alone, concurrent and unstreamed. Every row gets
// its joules and says that they are simulated, the ledger balances to the microjoule, and the recording gives the same
// joules offline.
func TestEnergyEndToEnd(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "recording")
	up := llamatest.Start(t, "-c", "131072")
	tokens := llamatest.Tokens(t, up, 200*time.Millisecond, 400) // longer than the time resolution of the GPU's power
	w := serve(t, up.URL(), "--gpu", "sim", "--record", dir, "--price-per-kwh", "0.3")
	w.awaitQuiet(t, 4)
	stream := map[string]any{
		"messages": []any{map[string]any{"role": "user", "content": "ba ce di fo gu"}}, "stream": true, "max_tokens": tokens, "ignore_eos": true,
	}
	var mu sync.Mutex
	var ids []string
	send := func(path string, body map[string]any) {
		r := w.post(t.Context(), path, body)
		if r.err != nil || r.status != 200 {
			t.Errorf("status %d, %v", r.status, r.err)
		}
		mu.Lock()
		defer mu.Unlock()
		ids = append(ids, r.id)
	}
	send("/v1/chat/completions", stream)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { send("/v1/chat/completions", stream) })
	}
	wg.Wait()
	send("/completion", map[string]any{"prompt": "ba ce di", "n_predict": tokens, "ignore_eos": true})
	if r := w.post(t.Context(), "/tokenize", map[string]any{"content": "ba"}); r.err != nil {
		t.Error(r.err)
	}
	w.stop(t)
	offline := attributedRows(t, dir)
	rows := w.stored(t, 100)
	for _, id := range ids {
		rec := rows[id]
		if rec == nil || !rec.GPUUj.Valid || rec.GPUUj.V <= 0 || !strings.HasPrefix(rec.EnergySource, "sim/") {
			t.Errorf("row %+v", rec)
			continue
		}
		if rec.GPUActiveUj.Valid && rec.GPUUj.V != rec.GPUActiveUj.V+rec.GPUIdleUj.V {
			t.Errorf("%s: %d is not %d + %d", id, rec.GPUUj.V, rec.GPUActiveUj.V, rec.GPUIdleUj.V)
		}
		sameJoules(t, id, rec, offline[id])
	}
	if n := len(rows); n != len(ids)+1 {
		t.Errorf("%d rows of %d requests", n, len(ids)+1)
	}
	if got := answer(t, "query", "--store", w.store, "--format", "csv", "--name", "conservation"); !strings.HasSuffix(strings.TrimSpace(got), ",0,0") {
		t.Errorf("the ledger does not balance:\n%s", got)
	}
	const seconds = "SELECT count(energy_uj) >= 4, count(energy_uj) - sum(simulated = 1 AND channel <> '' AND error_uj >= 0 AND min_mw <= mean_mw AND mean_mw <= max_mw) AS odd, " +
		"count(*) - count(energy_uj) - count(marked) AS unexplained FROM power"
	if got := answer(t, "query", "--store", w.store, "--format", "csv", seconds); !strings.HasSuffix(strings.TrimSpace(got), "1,0,0") {
		t.Errorf("seconds of power:\n%s", got)
	}
	saysSimulated(t, w.store, ids[0])
	if got := answer(t, "requests", "--store", w.store); strings.Count(got, "simulated") != len(ids) {
		t.Errorf("the table does not say everywhere that the joules are simulated:\n%s", got)
	}
}

// awaitQuiet waits until so many seconds of power are stored. The idle draw is learnt while nothing runs.
func (w *wattlineProcess) awaitQuiet(t *testing.T, seconds int) {
	t.Helper()
	r, err := store.OpenReader(t.Context(), w.store)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	n := 0
	for deadline := time.Now().Add(patience); n < seconds; <-time.After(50 * time.Millisecond) {
		if err := r.DB().QueryRowContext(t.Context(), "SELECT count(energy_uj) FROM power").Scan(&n); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("only %d seconds of power are stored", n)
		}
	}
}

// saysSimulated checks that the output says that the joules are simulated.
func saysSimulated(t *testing.T, store, id string) {
	t.Helper()
	for _, args := range [][]string{{"requests", "--store", store}, {"requests", id, "--store", store}, {"usage", "--store", store}} {
		if got := answer(t, args...); !strings.Contains(strings.ToLower(got), "simulated") {
			t.Errorf("wattline %s does not say that the joules are simulated:\n%s", strings.Join(args, " "), got)
		}
	}
}

// sameJoules checks that a row has the same joules in line and from the recording, to the microjoule, because both have
// the same ledger and input.
func sameJoules(t *testing.T, id string, rec, off *meter.Record) {
	t.Helper()
	if off == nil {
		t.Errorf("%s is not in the recording", id)
		return
	}
	if off.EnergyQuality != rec.EnergyQuality {
		t.Errorf("%s: in line %s, offline %s", id, rec.EnergyQuality, off.EnergyQuality)
	}
	for name, v := range map[string][2]meter.Int{
		"gpu_uj": {rec.GPUUj, off.GPUUj}, "gpu_active_uj": {rec.GPUActiveUj, off.GPUActiveUj}, "gpu_idle_uj": {rec.GPUIdleUj, off.GPUIdleUj},
		"gpu_prefill_uj": {rec.GPUPrefillUj, off.GPUPrefillUj}, "gpu_decode_uj": {rec.GPUDecodeUj, off.GPUDecodeUj},
		"gpu_time_uj": {rec.GPUTimeUj, off.GPUTimeUj}, "gpu_token_uj": {rec.GPUTokenUj, off.GPUTokenUj},
		"gpu_sigma_uj": {rec.GPUSigmaUj, off.GPUSigmaUj}, "gpu_active_sigma_uj": {rec.GPUActiveSigmaUj, off.GPUActiveSigmaUj},
	} {
		if v[0] != v[1] {
			t.Errorf("%s: %s is %+v in line, %+v offline", id, name, v[0], v[1])
		}
	}
}

// attributedRows runs `wattline attribute --json` and returns its requests by tag, which is the row's ID.
func attributedRows(t *testing.T, dir string) map[string]*meter.Record {
	t.Helper()
	rows := map[string]*meter.Record{}
	for line := range strings.Lines(answer(t, "attribute", dir, "--json")) {
		var tagged struct {
			Tag    string `json:"tag"`
			Ledger any    `json:"ledger"`
		}
		var rec meter.Record
		if err := json.Unmarshal([]byte(line), &tagged); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(line), &rec); err != nil {
			t.Fatal(err)
		}
		if tagged.Ledger == nil {
			rows[tagged.Tag] = &rec
		}
	}
	return rows
}
