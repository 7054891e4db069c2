package energy

// ring is a queue that grows to its greatest length and then allocates no more.
type ring[T any] struct {
	buf        []T // length zero or a power of two
	head, tail uint64
}

func (r *ring[T]) len() int { return int(r.tail - r.head) }

// at returns the i-th oldest element.
func (r *ring[T]) at(i int) *T { return &r.buf[(r.head+uint64(i))&uint64(len(r.buf)-1)] }

func (r *ring[T]) push(v T) {
	if r.len() == len(r.buf) {
		bigger := make([]T, max(64, 2*len(r.buf)))
		for i := range r.len() {
			bigger[(r.head+uint64(i))&uint64(len(bigger)-1)] = *r.at(i)
		}
		r.buf = bigger
	}
	r.buf[r.tail&uint64(len(r.buf)-1)] = v
	r.tail++
}

func (r *ring[T]) pop() T {
	v := r.buf[r.head&uint64(len(r.buf)-1)]
	r.head++
	return v
}
