package stub

import "sync"

// slots are the server's slots. Requests that find none free queue in order of arrival.
type slots struct {
	mu      sync.Mutex // guards what follows
	busy    []bool
	tasks   []int    // task number of the slot's current or last request
	prompts []string // in the slot's cache
	waiting []chan int
	task    int
}

func newSlots(n int) *slots {
	return &slots{busy: make([]bool, n), tasks: make([]int, n), prompts: make([]string, n)}
}

// acquire waits for a slot and returns its number and whether the slot's cache holds this prompt. ok is
// false if gone was closed first.
func (s *slots) acquire(prompt string, gone <-chan struct{}) (slot int, cached, ok bool) {
	s.mu.Lock()
	if slot = s.free(prompt); slot < 0 {
		turn := make(chan int, 1)
		s.waiting = append(s.waiting, turn)
		s.mu.Unlock()
		select {
		case slot = <-turn:
		case <-gone:
			s.abandon(turn)
			return 0, false, false
		}
		s.mu.Lock()
	}
	defer s.mu.Unlock()
	s.busy[slot] = true
	s.task++
	s.tasks[slot] = s.task
	cached = s.prompts[slot] == prompt && prompt != ""
	s.prompts[slot] = prompt
	return slot, cached, true
}

// free finds the free slot that holds the prompt, or the first free one, or -1.
func (s *slots) free(prompt string) int {
	found := -1
	for i, busy := range s.busy {
		if busy {
			continue
		}
		if s.prompts[i] == prompt {
			return i
		}
		if found < 0 {
			found = i
		}
	}
	return found
}

// abandon takes a waiting request out of the queue. If it was just given a slot, the slot is released.
func (s *slots) abandon(turn chan int) {
	s.mu.Lock()
	for i, w := range s.waiting {
		if w == turn {
			s.waiting = append(s.waiting[:i], s.waiting[i+1:]...)
			s.mu.Unlock()
			return
		}
	}
	s.mu.Unlock()
	s.release(<-turn)
}

// release frees a slot, or gives it to the first in the queue.
func (s *slots) release(slot int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 {
		s.busy[slot] = false
		return
	}
	turn := s.waiting[0]
	s.waiting = s.waiting[1:]
	turn <- slot
}

// state copies the fields that /slots shows.
func (s *slots) state() (busy []bool, tasks []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]bool(nil), s.busy...), append([]int(nil), s.tasks...)
}
