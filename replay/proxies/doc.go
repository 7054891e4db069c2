// Package proxies measures what wattline adds to a request, beside proxies that people know: a plain Go TCP relay,
// httputil.ReverseProxy, nginx and HAProxy.
//
// [Run] starts an upstream that writes the time of each write into its events ([Upstream]), and for every cell of the
// table one fresh process of one proxy between that upstream and the load generator (load). The result is the
// client's latency minus the latency without a proxy in the same round, and the CPU time and memory of the proxy's
// processes as the kernel counts them. Upstream and load generator are one thread with one epoll each; the report
// states their own cost. Run needs Linux (epoll, /proc).
//
// [Compare] measures a user's own upstream, directly and through wattline, on any system.
package proxies
