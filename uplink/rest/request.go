package rest

import (
	"bytes"
	"compress/gzip"
	"context"
	"net/http"

	"github.com/sluice-edge/sluice/internal/fault"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
)

const (
	// maxAnswer and maxAnswerEvent bound what is read of an answer: the second
	// is added for each event of the request.
	maxAnswer      = 64 << 10
	maxAnswerEvent = 512
	// maxAnswerEcho is how many times the size of the request may be added, for
	// receivers that answer with what they have made of it.
	maxAnswerEcho = 2
	// packFrom is the size from which a body is worth packing, in bytes.
	packFrom = 1 << 10
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

// fill makes the next message of events. Its error says why the first of them
// can never be sent.
func (s *Sender) fill(events []plant.Event) (*message, error) {
	limit := int(s.options.MaxBody)
	if most := int(s.most.Load()); most > 0 {
		limit = min(limit, most)
	}
	return s.form.fill(events, limit, int(s.options.MaxBody))
}

// post makes one request and reads the answer. An error means that nobody knows
// what became of the events. again is set if this body was sent before and
// nobody knows what became of it.
func (s *Sender) post(ctx context.Context, m *message, again bool) (*httplink.Answer, error) {
	header := m.header.Clone()
	header.Set("Idempotency-Key", key(m.events))
	body := m.body
	if s.options.Gzip && len(body) >= packFrom {
		body = s.packed(body)
		header.Set("Content-Encoding", "gzip")
	}
	fault.Pass("rest.beforeRequest")
	defer fault.Pass("rest.afterResponse")
	return s.client.Do(ctx, &httplink.Request{
		Method: m.method, URL: m.target, Header: header, Body: body,
		AskFirst: again && len(m.body) >= httplink.AskFirst,
		Most:     maxAnswer + len(m.events)*maxAnswerEvent + maxAnswerEcho*len(m.body),
		Whole:    func(status int, _ http.Header) bool { return s.speaks(m, status) || s.ruled(status) },
	})
}

// packed returns body as gzip packs it (RFC 1952), the same at each try.
func (s *Sender) packed(body []byte) []byte {
	var out bytes.Buffer
	w, ok := s.packers.Get().(*gzip.Writer)
	if !ok {
		w = gzip.NewWriter(&out)
	}
	defer s.packers.Put(w)
	w.Reset(&out)
	if _, err := w.Write(body); err != nil {
		panic(err) // a Buffer takes everything
	}
	if err := w.Close(); err != nil {
		panic(err) // as above
	}
	return out.Bytes()
}

// ruled reports whether the receiver's own rules look into the body of an answer.
func (s *Sender) ruled(status int) bool {
	o, ok := s.options.Answer.outcome(status)
	return s.options.Answer.reads() && (ok && o == taken || !ok && status >= 200 && status <= 299)
}

// speaks reports whether the body of the answer may say something of each
// event.
func (s *Sender) speaks(m *message, status int) bool {
	switch {
	case status == http.StatusMultiStatus:
		return true
	case status < 200 || status > 299 || s.options.Results == resultsIgnore:
		return false
	case s.options.Results == resultsRequired:
		return true
	}
	return m.list // also where the body does not say that it is JSON: it may be
}
