package rest

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/sluice-edge/sluice/internal/fault"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
)

const (
	// batchType is the media type of several events (CloudEvents JSON format
	// 1.0, section 4).
	batchType = "application/cloudevents-batch+json; charset=utf-8"
	// envelope is more than the attributes of an event take, unless names are
	// long.
	envelope = 512
	// maxAnswer and maxAnswerEvent bound what is read of an answer: the second
	// is added for each event of the request.
	maxAnswer      = 64 << 10
	maxAnswerEvent = 512
	// maxAnswerEcho is how many times the size of the request may be added, for
	// receivers that answer with what they have made of it.
	maxAnswerEcho = 2
)

// header returns what each request carries.
func (o Options) header() http.Header {
	h := http.Header{
		"Accept":          {"application/json"},
		"Accept-Encoding": {"identity"}, // without it a server may pack as it likes (RFC 9110 section 12.5.3)
		"Content-Type":    {uplink.ContentType},
		"User-Agent":      {"sluice"},
	}
	if o.Batch > 1 {
		h.Set("Content-Type", batchType)
	}
	for name, value := range o.Headers {
		h.Set(name, value)
	}
	o.Auth.Set(h)
	return h
}

// span is a body of which nobody knows what became of it.
type span struct {
	first plant.Sequence
	n     int
}

// doubt notes that nobody knows what became of a body.
func (s *Sender) doubt(m plant.MachineID, events []plant.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doubts[m] = span{events[0].Sequence, len(events)}
}

// doubted returns how many events the next body must hold, so that it is the
// one of which nobody knows what became; 0 if there is none. Those who know
// bodies by their key must meet the same again.
func (s *Sender) doubted(m plant.MachineID, events []plant.Event) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.doubts[m]
	delete(s.doubts, m)
	if d.first != events[0].Sequence || d.n > len(events) {
		return 0
	}
	return d.n
}

// fill makes the next body and returns how many events are in it, 0 if the
// first alone is more than max_body.
func (s *Sender) fill(events []plant.Event) (body []byte, n int) {
	if s.options.Batch == 1 {
		if body = s.render(events[:1]); len(body) > int(s.options.MaxBody) {
			return body, 0
		}
		return body, 1
	}
	limit := int(s.options.MaxBody)
	if most := int(s.most.Load()); most > 0 {
		limit = min(limit, most)
	}
	size := 2
	for n < len(events) && n < s.options.Batch && size < limit {
		size += len(events[n].Data) + envelope
		n++
	}
	body = append(make([]byte, 0, size), '[')
	for i := range events[:n] {
		before := len(body)
		if i > 0 {
			body = append(body, ',')
		}
		if body = uplink.AppendCloudEvent(body, &events[i]); len(body) < limit {
			continue
		}
		if i == 0 { // alone it may still be taken
			if len(body) >= int(s.options.MaxBody) {
				return append(body, ']'), 0
			}
			return append(body, ']'), 1
		}
		return append(body[:before], ']'), i
	}
	return append(body, ']'), n
}

// render makes the body of events.
func (s *Sender) render(events []plant.Event) []byte {
	size := 2
	for i := range events {
		size += len(events[i].Data) + envelope
	}
	body := make([]byte, 0, size)
	if s.options.Batch == 1 {
		return uplink.AppendCloudEvent(body, &events[0])
	}
	body = append(body, '[')
	for i := range events {
		if i > 0 {
			body = append(body, ',')
		}
		body = uplink.AppendCloudEvent(body, &events[i])
	}
	return append(body, ']')
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
	safe := func(c byte) bool { return c > ' ' && c <= '~' && c != '%' && c != '"' && c != ',' && c != ';' }
	plain := true
	for i := range len(first) {
		plain = plain && safe(first[i])
	}
	if plain {
		return first
	}
	var b strings.Builder
	for i := range len(first) {
		if c := first[i]; safe(c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// post makes one request and reads the answer. An error means that nobody knows
// what became of the events. again is set if this body was sent before and
// nobody knows what became of it.
func (s *Sender) post(ctx context.Context, events []plant.Event, body []byte, again bool) (*httplink.Answer, error) {
	header := s.headers.Clone()
	header.Set("Idempotency-Key", key(events))
	fault.Pass("rest.beforeRequest")
	defer fault.Pass("rest.afterResponse")
	return s.client.Do(ctx, &httplink.Request{
		Method: s.options.Method, URL: s.target, Header: header, Body: body,
		AskFirst: again && len(body) >= httplink.AskFirst,
		Most:     maxAnswer + len(events)*maxAnswerEvent + maxAnswerEcho*len(body),
		Whole:    s.speaks,
	})
}

// speaks reports whether the body of the answer may say something of each
// event.
func (s *Sender) speaks(status int, h http.Header) bool {
	switch {
	case status == http.StatusMultiStatus:
		return true
	case status < 200 || status > 299 || s.options.Results == resultsIgnore:
		return false
	case s.options.Results == resultsRequired:
		return true
	}
	return s.options.Batch > 1 && httplink.JSONType(h)
}
