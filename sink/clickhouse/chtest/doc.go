// Package chtest is a real ClickHouse for tests: the engine of npm's chdb package, a library, made to
// answer as a server does.
//
// Three layers, outermost first:
//
//   - Server (server.go) listens on loopback for ClickHouse's HTTP interface (http.go) and its native
//     protocol (native.go), checks users and passwords, and can fail on demand (faults.go). A package's
//     tests share one engine and take a Server each.
//   - Engine (engine.go) is the process that holds the data directory. It can be killed and restarted.
//     The process ends with the test binary, even if that is killed.
//   - engine/engine.c, about a hundred and fifty lines compiled with cc on first use, loads the library
//     and answers queries over a Unix socket, one session a connection.
//
// The library comes from npm once, into the cache (fetch.go); after that nothing here needs a network.
//
// What is real: the SQL parser, every table engine but the replicated ones, codecs, TTL, parts on disk,
// the deduplication log, query settings, exceptions and their codes. What is this package's: the two
// protocols' server side and the users. Two independent clients speak to the native side, clickhouse-go and
// the C++ client inside the engine (cplusplus_test.go), which is how its framing is checked; a server's
// progress and profile packets, chunked packets and protocol revisions above 54460 are not imitated.
//
// One thing the library does not do is delete dropped tables in the background, so DROP ... SYNC would wait
// for ever: leave SYNC out.
//
// A test file uses it like this:
//
//	var shared chtest.Shared
//
//	func TestMain(m *testing.M) { os.Exit(shared.Run(m)) }
//
//	func TestX(t *testing.T) {
//		srv := chtest.NewServer(t, shared.Engine(t), chtest.Options{})
//		... srv.DSN() ...
//	}
package chtest
