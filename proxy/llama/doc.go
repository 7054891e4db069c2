// Package llama reads the state of an upstream that may be a llama-server.
//
// Client has three requests: Ready (GET /health), Info (GET /props and /v1/models: build, model, context,
// slots) and Slots (GET /slots).
//
// SlotTracker learns which slot serves which request. The energy ledger needs that where the server's slots
// do not share one cache, since then only neighbouring slots decode in one batch. It polls when the set of
// requests has changed and a slot is unknown: 60 ms after the change and at most twice a second, however many
// tokens arrive.
//
// A reply's slots (task number, which grows with every task; max_tokens; tokens generated; prompt length)
// are matched with the requests that this proxy forwarded (match.go). Where two requests might hold the
// same slot, neither is assigned.
package llama
