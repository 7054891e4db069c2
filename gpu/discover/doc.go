// Package discover finds out, through procfs, which processes of this machine are an upstream's: those that
// listen on its port (ProcessTree), with which command line it was started (Host.Server), and what the
// machine and these processes use of CPU and memory (Host.Read). Finder makes one search an upstream,
// after one bounded DNS lookup, and shares it.
//
// What cannot be read is null. In a container, /proc shows the container's own processes under its own
// numbers while a driver reports the host's: then nothing matches, and nothing is taken for the upstream's.
package discover
