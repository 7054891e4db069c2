// Package llama finds, fetches and runs a real llama-server, for the demo and for tests.
//
// [Find] returns the first of: the program that WATTLINE_LLAMA_SERVER names, a llama-server on PATH, one
// fetched earlier into the cache, and, on Debian, one fetched now. fetch.sh downloads and unpacks Debian's
// packages with signature-checked apt calls; it needs no root and installs nothing. On other systems Find's
// error says how to install one.
//
// [TinyModel] is a 0.9 MB model with random weights (testdata/README.md says how it was made). A real
// llama-server loads it at once and answers with gibberish. Its speed and energy mean nothing.
//
// [Start] runs a server on a free port and waits until it is healthy; [Server.Stop] ends it:
//
//	bin, err := llama.Find(ctx, os.Stderr)
//	model, err := llama.TinyModel(ctx)
//	srv, err := llama.Start(ctx, bin, "-m", model, "-np", "4")
//	defer srv.Stop()
//	http.Get(srv.URL() + "/v1/models")
//
// The cache is $XDG_CACHE_HOME/wattline (default ~/.cache/wattline); it may be deleted at any time.
package llama
