// Package load runs a plan: it warms the server up, says how long it will take, leaves out what the
// budget does not allow, sends every request of every cell in the plan's order, and keeps what came back.
//
// In a closed loop, workers send the next request as soon as the last was answered; in an open loop,
// requests are sent when a schedule drawn beforehand says so, whether or not earlier ones were answered,
// and their latency is also counted from that moment. Prompts are made before a cell begins, so that
// making them disturbs nothing.
package load
