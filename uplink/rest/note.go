package rest

import (
	"time"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
)

// note notes one request in the journal, with the outcome that results have; nil
// are those of a request whose events go again in smaller bodies.
func (s *Sender) note(m plant.MachineID, msg *message, began time.Time, a *httplink.Answer, err error, results []plant.Result) {
	if s.journal == nil {
		return
	}
	events := msg.events
	x := uplink.Exchange{
		Time: began, Duration: time.Since(began), Machine: m, Kind: events[0].Kind, First: events[0].Sequence, Last: events[len(events)-1].Sequence, Events: len(events),
		RequestID: key(events), Method: msg.method, Where: httplink.Show(msg.target), Outcome: uplink.OutcomeDelivered,
	}
	for i := range events {
		if events[i].Kind != x.Kind {
			x.Kind = ""
		}
	}
	if err != nil {
		x.Outcome, x.Words = uplink.OutcomeRetry, err.Error()
		s.journal.Note(x)
		return
	}
	x.Status = a.Status
	x.Words = s.client.Clean(s.options.Answer.words(a))
	if id := s.options.Answer.id(a.Body); id != "" && s.outcome(a) == taken {
		x.ReceiverID = s.client.Clean(id)
	}
	if results == nil {
		x.Outcome, x.Words = uplink.OutcomeRetry, "refused as one; its events go again in smaller bodies: "+x.Words
	}
	for i := range results {
		switch r := &results[i]; r.Status {
		case plant.Rejected:
			x.Outcome, x.Words = uplink.OutcomeRefused, r.Cause.Error()
		case plant.Retry:
			x.Outcome, x.Words = uplink.OutcomeRetry, r.Cause.Error()
		}
	}
	s.journal.Note(x)
}
