// Package bench says what a hop through wattline costs, beside hops that people know: a plain Go TCP relay,
// httputil.ReverseProxy, nginx and HAProxy.
//
// Run starts an upstream whose writes carry the time at which they were made (Upstream), and for every cell
// of the table one fresh process of one contender between that upstream and the load generator (load). What
// is measured is what a client sees, minus what it sees without a hop in the same round; and what the
// contender's processes used of CPU and memory, as the kernel counts it. Upstream and load generator are one
// thread with one epoll each: they are the floor, and the report states what they cost.
//
// It is Linux only (epoll, /proc). What a user measures on an upstream of his own is in Compare and runs
// anywhere.
package proxies
