package energy

// chunkLen is how many elements lie together.
const chunkLen = 128

// fifo is a queue in chunks. It never moves an element, so growing touches no other memory, and it reuses empty
// chunks, so that it stops allocating once it has reached its greatest length.
type fifo[T any] struct {
	chunks     []*[chunkLen]T // in use from index gone on
	gone       int
	head, tail uint64 // counted from the beginning of chunks[gone]
	spare      []*[chunkLen]T
}

func (r *fifo[T]) len() int { return int(r.tail - r.head) }

// at returns the i-th oldest element.
func (r *fifo[T]) at(i int) *T {
	k := r.head + uint64(i)
	return &r.chunks[r.gone+int(k/chunkLen)][k%chunkLen]
}

func (r *fifo[T]) push(v T) {
	k := int(r.tail / chunkLen)
	if r.gone+k == len(r.chunks) {
		r.grow()
	}
	r.chunks[r.gone+k][r.tail%chunkLen] = v
	r.tail++
}

// grow adds a chunk.
func (r *fifo[T]) grow() {
	if len(r.chunks) == cap(r.chunks) && 4*r.gone > len(r.chunks) {
		r.chunks = r.chunks[:copy(r.chunks, r.chunks[r.gone:])]
		r.gone = 0
	}
	if n := len(r.spare); n > 0 {
		r.chunks = append(r.chunks, r.spare[n-1])
		r.spare = r.spare[:n-1]
		return
	}
	r.chunks = append(r.chunks, new([chunkLen]T))
}

func (r *fifo[T]) pop() T {
	v := r.chunks[r.gone][r.head]
	if r.head++; r.head == chunkLen {
		r.spare = append(r.spare, r.chunks[r.gone])
		r.gone++
		r.head, r.tail = 0, r.tail-chunkLen
	}
	return v
}
