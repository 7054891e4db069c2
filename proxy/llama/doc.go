// Package llama is what an upstream says of itself: its build and model (GET /props, GET /v1/models), and its slots
// (GET /slots). Every question is asked on a connection of its own that is closed afterwards, since an idle one would
// occupy one of llama-server's few HTTP threads.
//
// A Reader finds out which of llama-server's slots serves which request, from GET /slots. The
// ledger needs it where a server does not share one cache among its slots: then only neighbouring slots
// decode in one batch.
//
// A Reader asks when the set of requests that hold a slot has changed and there is something to learn:
// on a connection of its own that is closed afterwards (an idle one would occupy one of the server's few
// HTTP threads), a moment after the change, at most twice a second. It never asks because of a token.
//
// What a reply says of a slot (its task's number, which grows with every task; max_tokens; tokens
// generated; prompt length) is matched with what is known of the requests that this proxy forwarded. A
// slot that two requests might hold stays unknown: better than wrong.
package llama
