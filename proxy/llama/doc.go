// Package llama asks an upstream about itself.
//
// Client has the three questions: Ready (GET /health), Info (GET /props and /v1/models: build, model,
// context, slots) and Slots (GET /slots). Each uses a connection of its own, and a reply has a bound.
//
// SlotTracker finds out which slot serves which request. The energy ledger needs that where the server's
// slots do not share one cache, since then only neighbouring slots decode in one batch. It polls when the
// set of requests has changed and there is something to learn: a moment after the change and at most twice
// a second, never because of a token.
//
// A reply's slots (task number, which grows with every task; max_tokens; tokens generated; prompt length)
// are matched with the requests that this proxy forwarded (match.go). Where two requests might hold the
// same slot, neither is assigned.
package llama
