// Package nvml reads NVIDIA cards through the driver's own library, libnvidia-ml.so.1, which it loads at
// run time: the cumulative energy counter, the ring buffer of timestamped power samples (20 ms apart on an
// H100), power, state and the processes that compute.
//
// Talking to the library needs cgo. A build without it has the same New, which then says so; the machine
// can still be read through package smi.
package nvml
