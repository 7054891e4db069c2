// Package rawconn has what the data path needs of sockets beyond net.Conn: reads and writes without the
// scheduler's bookkeeping (Conn), notice of a peer that leaves (Watcher), and the buffers for both
// directions.
package rawconn
