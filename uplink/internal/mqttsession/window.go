package mqttsession

import (
	"context"
	"slices"
	"sync"
)

// window bounds the messages and bytes in flight over all streams. Who waits is
// served in the order of waiting, so that no stream starves.
type window struct {
	mu                sync.Mutex
	slots, bytes      int // free
	maxSlots, maxSize int
	queue             []*waiter
}

type waiter struct {
	slots, bytes int
	ready        chan struct{}
}

func newWindow(slots, bytes int) *window {
	return &window{slots: slots, bytes: bytes, maxSlots: slots, maxSize: bytes}
}

// fit caps a request at the whole window, so that a large message goes alone.
func (w *window) fit(slots, bytes int) (int, int) {
	return min(slots, w.maxSlots), min(bytes, w.maxSize)
}

// try takes room if there is some and nobody waits for it.
func (w *window) try(slots, bytes int) bool {
	slots, bytes = w.fit(slots, bytes)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) > 0 || slots > w.slots || bytes > w.bytes {
		return false
	}
	w.slots -= slots
	w.bytes -= bytes
	return true
}

// idle reports whether nothing is in flight.
func (w *window) idle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.slots == w.maxSlots
}

// wait takes room when there is some. It returns errLost when lost is closed,
// or ctx's error.
func (w *window) wait(ctx context.Context, lost <-chan struct{}, slots, bytes int) error {
	slots, bytes = w.fit(slots, bytes)
	me := &waiter{slots: slots, bytes: bytes, ready: make(chan struct{})}
	w.mu.Lock()
	w.queue = append(w.queue, me)
	w.grant()
	w.mu.Unlock()
	var err error
	select {
	case <-me.ready:
		return nil
	case <-lost:
		err = errLost
	case <-ctx.Done():
		err = ctx.Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := slices.Index(w.queue, me); i >= 0 {
		w.queue = slices.Delete(w.queue, i, i+1)
		w.grant()
		return err
	}
	// Room came at the same moment; it is given back.
	w.slots += slots
	w.bytes += bytes
	w.grant()
	return err
}

// release gives room back.
func (w *window) release(slots, bytes int) {
	slots, bytes = w.fit(slots, bytes)
	w.mu.Lock()
	w.slots += slots
	w.bytes += bytes
	w.grant()
	w.mu.Unlock()
}

// grant serves who waits, in order, as far as there is room.
func (w *window) grant() {
	for len(w.queue) > 0 {
		first := w.queue[0]
		if first.slots > w.slots || first.bytes > w.bytes {
			return
		}
		w.slots -= first.slots
		w.bytes -= first.bytes
		w.queue = slices.Delete(w.queue, 0, 1)
		close(first.ready)
	}
}
