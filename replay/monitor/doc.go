// Package monitor looks at a server again and again and says when it changed. A look is a canary, one small cell of replay,
// or the traffic that passed a wattline since the last look; each is a [Line] of a log. A [Detector] for each metric finds
// changes; [State] names what changed at the same time. [Run] is the loop.
package monitor
