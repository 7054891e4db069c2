// Package llama finds, fetches and runs a real llama-server, for the demo and for tests.
//
// [Find] answers with the first of: the program that WATTLINE_LLAMA_SERVER names, a llama-server on
// PATH, one fetched earlier into the cache, and, on Debian, one fetched now. Fetching is fetch.sh, which
// also runs alone: it takes Debian's own packages through signature-checked apt calls, needs no root and
// installs nothing (its head says how). On other systems Find's error says how to install one.
//
// [TinyModel] is a 0.9 MB model with random weights (testdata/README.md says how it was made): a real
// llama-server loads it in a moment and answers fast, with gibberish. It exercises every route and says
// nothing about speed or energy.
//
// [Start] runs a server on a free port and waits until it is healthy; [Server.Stop] ends it:
//
//	bin, err := llama.Find(ctx, llama.Options{Progress: os.Stderr})
//	model, err := llama.TinyModel(ctx)
//	srv, err := llama.Start(ctx, bin, llama.Config{Model: model, Args: []string{"-np", "4"}})
//	defer srv.Stop()
//	http.Get(srv.URL() + "/v1/models")
//
// Everything that is kept lies in $XDG_CACHE_HOME/wattline (default ~/.cache/wattline) and may be
// deleted at any time.
package llama
