// Package http1 parses and validates HTTP/1.x message heads and follows bodies through their framing.
//
// Messages are passed on byte for byte, so nothing here rewrites them. Head holds a head's bytes and the parsed
// fields; Body and ChunkScanner find the payload and the end of a body.
package http1
