//go:build !unix

package main

// openFilesLimit returns false, because the limit is not known here.
func openFilesLimit() (int, bool) { return 0, false }
