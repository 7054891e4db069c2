//go:build !unix

package main

// openFilesLimit returns false: there is no such limit here.
func openFilesLimit() (int, bool) { return 0, false }
