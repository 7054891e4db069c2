package discover

import (
	"sync/atomic"
	"time"

	"wattline/meter"
)

// rssEvery is how often the memory of an upstream's processes is read.
const rssEvery = 2 * time.Second

// RSSPoller reads the resident memory of a local upstream's processes. A nil one knows nothing.
type RSSPoller struct {
	bytes atomic.Int64 // 0: not known
	quit  chan struct{}
	ended chan struct{}
}

// PollRSS starts a poller; nil where the upstream's processes cannot be known. Stop ends it.
func PollRSS(host *Host, processes *ProcessTree) *RSSPoller {
	if processes == nil {
		return nil
	}
	r := &RSSPoller{quit: make(chan struct{}), ended: make(chan struct{})}
	go r.run(host, processes) // ends with Stop, which waits
	return r
}

func (r *RSSPoller) run(host *Host, processes *ProcessTree) {
	defer close(r.ended)
	ticker := time.NewTicker(rssEvery)
	defer ticker.Stop()
	for {
		if pids, err := processes.PIDs(); err != nil {
			r.bytes.Store(0)
		} else {
			r.bytes.Store(host.Resident(pids).V)
		}
		select {
		case <-r.quit:
			return
		case <-ticker.C:
		}
	}
}

// Bytes is the newest reading; null where none is known.
func (r *RSSPoller) Bytes() meter.Int {
	if r == nil {
		return meter.Int{}
	}
	v := r.bytes.Load()
	return meter.Int{V: v, Valid: v > 0}
}

// Stop ends the polling.
func (r *RSSPoller) Stop() {
	if r != nil {
		close(r.quit)
		<-r.ended
	}
}
