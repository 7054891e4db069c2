package serving

import (
	"context"
	"time"

	"wattline/meter"
	"wattline/meter/cache"
	"wattline/proxy/llama"
	"wattline/sink/autopsy"
	"wattline/sink/serverconfig"
)

// AutopsyFlags configure why prompts were computed again.
type AutopsyFlags struct {
	AutopsyMemory int64 `help:"Bytes of memory for the texts of recent prompts, from which it is told what in a prompt changed. Texts are never written to the disk. 0: lost caches are not explained." default:"${autopsy_memory}" group:"Cache"`
	AutopsyText   bool  `help:"Write the lines by which a prompt lost its cache to the log. They are parts of people's prompts." group:"Cache"`
}

// remembered bounds how many fingerprints of an earlier run are read.
const remembered = 256

// openAutopsy begins to explain lost caches; nil where nothing is kept of clients, or no memory is given.
func openAutopsy(h *Host, c *Flags, r *Rows, key []byte) *autopsy.Autopsy {
	if c.AutopsyMemory <= 0 || c.Identify == meter.IdentifyNone {
		return nil
	}
	out := autopsy.New(autopsy.Config{
		Secret: key, Memory: c.AutopsyMemory, Keep: c.KeepPrompts > 0, Text: c.AutopsyText, Log: h.Log, Offer: r.Queue.OfferPrompt,
	})
	if c.KeepPrompts == 0 {
		return out
	}
	ctx, cancel := context.WithTimeout(h.Ctx, 5*time.Second)
	defer cancel()
	kept, err := r.Reader.Prompts(ctx, time.Now().Add(-c.KeepPrompts), remembered)
	if err != nil {
		h.Log.Warn("the prompts of the last run are not known", "error", err)
	}
	for _, k := range kept {
		out.Remember(k.Record, k.Fingerprint)
	}
	return out
}

// serverFacts tells the autopsy what a route's upstream is.
func serverFacts(t *serverconfig.Tracker) autopsy.Server {
	return func() (cache.Facts, int64) {
		c, ended := t.Config()
		if c == nil {
			return cache.Facts{}, ended
		}
		return cache.FactsOf(c.Slots, c.ContextTokens, c.ServerFlags), ended
	}
}

// autopsyClient asks a route's upstream for its slots, behind a loss that nothing else explains; nil with --slots off.
func autopsyClient(c *Flags, r *servedRoute) *llama.Client {
	if c.Slots == "off" {
		return nil
	}
	return r.client
}
