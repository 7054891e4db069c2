// Package rawconn reads and writes sockets without the scheduler's bookkeeping (Conn), notices peers that leave
// (Watcher), and pools the buffers for both directions.
package rawconn
