package rest

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
)

// message is one request before it is sent, all but who we are.
type message struct {
	method string
	target *url.URL
	header http.Header
	// body is nil for none.
	body   []byte
	events []plant.Event
	// leftOut is set if the receiver is not told of the events; nothing else is set
	// then.
	leftOut bool
	// list is set if the body is a list, also of one event, so that the answer may
	// speak for each.
	list bool
}

// form makes messages of events. It may be used from any goroutine.
type form interface {
	// fill makes a message of the first of events, and of as many behind it as go
	// with it in a body of at most limit bytes; the first alone may have up to most.
	// An error says why the first can never be sent. The same events make the same
	// message.
	fill(events []plant.Event, limit, most int) (*message, error)
}

const (
	// batchType is the media type of several events (CloudEvents JSON format
	// 1.0, section 4).
	batchType = "application/cloudevents-batch+json; charset=utf-8"
	// envelope is more than the attributes of an event take, unless names are
	// long.
	envelope = 512
)

// cloudEvents sends each event as a CloudEvent, or lists of them.
type cloudEvents struct {
	method string
	target *url.URL
	header http.Header
	// batch is how many events a body holds at most: with 1 it is no list.
	batch int
	codes *uplink.Codes
}

// fill implements form.
func (f *cloudEvents) fill(events []plant.Event, limit, most int) (*message, error) {
	m := &message{method: f.method, target: f.target, header: f.header, list: f.batch > 1}
	n := 0
	if m.list {
		m.body, n = f.list(events, limit, most)
	} else if m.body = f.codes.AppendCloudEvent(make([]byte, 0, len(events[0].Data)+envelope), &events[0]); len(m.body) <= most {
		n = 1
	}
	if n == 0 {
		return nil, &tooBig{len(m.body), most}
	}
	m.events = events[:n]
	return m, nil
}

// list makes a list of events and returns how many are in it, 0 if the first
// alone is more than most.
func (f *cloudEvents) list(events []plant.Event, limit, most int) (body []byte, n int) {
	size := 2
	for n < len(events) && n < f.batch && size < limit {
		size += len(events[n].Data) + envelope
		n++
	}
	body = append(make([]byte, 0, size), '[')
	for i := range events[:n] {
		before := len(body)
		if i > 0 {
			body = append(body, ',')
		}
		if body = f.codes.AppendCloudEvent(body, &events[i]); len(body) < limit {
			continue
		}
		if i == 0 { // alone it may still be taken
			if len(body) >= most {
				return append(body, ']'), 0
			}
			return append(body, ']'), 1
		}
		return append(body[:before], ']'), i
	}
	return append(body, ']'), n
}

// tooBig is the Cause of an event that is not sent at all.
type tooBig struct{ size, limit int }

// Error implements error.
func (e *tooBig) Error() string {
	return fmt.Sprintf("rest: send event: its body of %d bytes is larger than max_body (%d bytes)", e.size, e.limit)
}

// key returns the Idempotency-Key of events: the id of the one; of several the
// id of the first, the end of the last one's id and their number, which is the
// same whenever the same events are sent in one body. What a header cannot hold
// safely is percent-encoded.
func key(events []plant.Event) string {
	first := events[0].ID().String()
	if len(events) > 1 {
		last := &events[len(events)-1]
		first = fmt.Sprintf("%s..%s-%d/%d", first, last.Epoch, uint64(last.Sequence), len(events))
	}
	return httplink.HeaderSafe(first)
}
