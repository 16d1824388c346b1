package opcua

import (
	"fmt"
	"slices"
	"sync"

	"github.com/sluice-edge/sluice/plant"
)

// topic is what a piece of advice is about, in the order in which it is shown.
type topic uint8

const (
	onSubscription topic = iota
	onPolled
	onNamespace
	onNotes
	onStray
	onHaste
	onOverflow
	onSampling
	onDeadband
	topics
)

// advice is what works and could be better at this server, for the status page.
// It is written by the goroutine of Read and read by any.
type advice struct {
	mu   sync.Mutex
	said [topics]string
}

// say sets what is said about a topic, nothing if it is empty, and reports
// whether it is new.
func (a *advice) say(about topic, text string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	changed := a.said[about] != text
	a.said[about] = text
	return changed
}

// all returns what there is to say.
func (a *advice) all() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(a.said[:]), func(text string) bool { return text == "" })
}

// Advice implements drivers.Adviser.
func (d *driver) Advice() []string { return d.advice.all() }

// named says how many tags, and which is the first.
func named(tags []plant.TagID) string {
	if len(tags) == 1 {
		return "the tag " + string(tags[0])
	}
	return fmt.Sprintf("%d tags, the first is %s", len(tags), tags[0])
}

// about says text of the items that are like that, and nothing if none is.
func (s *session) about(topic topic, like func(*item) bool, text func(tags string) string) {
	var tags []plant.TagID
	for _, it := range s.items {
		if like(it) {
			tags = append(tags, it.tag)
		}
	}
	if len(tags) == 0 {
		s.d.advice.say(topic, "")
		return
	}
	s.d.advice.say(topic, text(named(tags)))
}

// review says what became of the wishes for each item.
func (s *session) review() {
	s.about(onPolled, func(it *item) bool { return it.polled }, func(tags string) string {
		return fmt.Sprintf("the server watches no more items: %s, read each %v instead; raise its limit of monitored items, or name fewer tags", tags, s.pollEvery())
	})
	s.about(onSampling, func(it *item) bool { return it.slow }, func(tags string) string {
		return fmt.Sprintf("the server looks less often than it was asked to: %s; what comes and goes faster is not seen: raise the sampling rate at the server, or write a longer sampling", tags)
	})
	s.about(onDeadband, func(it *item) bool { return it.unfiltered }, func(tags string) string {
		return fmt.Sprintf("the server takes no deadband: %s; the gateway applies it itself, nothing is to be done", tags)
	})
	s.about(onOverflow, func(it *item) bool { return it.overflowed }, func(tags string) string {
		return fmt.Sprintf("the server lost values between two reports: %s; raise queue, or shorten publishing", tags)
	})
}
