package rawconn

// Peer is told when the other side of its connection has left.
type Peer interface {
	// Left is called at most once, on the Watcher's goroutine.
	Left()
}
