package rest

import (
	"time"

	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
)

// noteToken notes a request for a token in the journal.
func (s *Sender) noteToken(began time.Time, a *httplink.Answer, err error) {
	x := uplink.Exchange{
		Time: began, Duration: time.Since(began), Method: "POST", Where: s.options.Auth.OAuth2.TokenURL, Outcome: uplink.OutcomeAsked,
		Words: "a token",
	}
	if a != nil {
		x.Status = a.Status
	}
	if err != nil {
		x.Outcome, x.Words = uplink.OutcomeRetry, err.Error()
	}
	s.journal.Note(x)
}
