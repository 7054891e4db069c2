// Package smi reads NVIDIA cards through the nvidia-smi program, for machines where the library cannot
// be loaded (a build without cgo, a container that has only the program). One process runs for as long
// as a device is open and writes a line a card every period; one that dies is started again with
// back-off.
//
// It has no energy counter and no sample buffer: power is polled, and its integral cannot be checked
// against anything.
package smi
