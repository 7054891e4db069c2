// Package host looks at the machine around the devices through procfs: who listens on the upstream's
// port and what it has started, how busy the processors are, how much memory is used, what the
// upstream's processes take of both.
//
// What cannot be read is null. In a container /proc shows the container's own processes under the
// container's own numbers, and a driver tells the host's: then nothing matches and nothing is claimed.
package discover
