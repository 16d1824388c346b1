package httplink

import (
	"net/http"
	"time"

	"github.com/sluice-edge/sluice/uplink"
)

// NoteTokens returns a SessionOptions.Note that tells the journal of each request
// for a token; nil if a needs none.
func NoteTokens(j *uplink.Journal, a Auth) func(began time.Time, answer *Answer, err error) {
	if a.OAuth2 == nil {
		return nil
	}
	return func(began time.Time, answer *Answer, err error) {
		x := uplink.Exchange{
			Time: began, Duration: time.Since(began), Method: http.MethodPost, Where: a.OAuth2.TokenURL, Outcome: uplink.OutcomeAsked,
			Words: "a token",
		}
		if answer != nil {
			x.Status = answer.Status
		}
		if err != nil {
			x.Outcome, x.Words = uplink.OutcomeRetry, err.Error()
		}
		j.Note(x)
	}
}
