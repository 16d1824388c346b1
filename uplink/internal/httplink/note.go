package httplink

import (
	"context"
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

// Ask makes one request that carries no event and notes it in the journal under
// that outcome. judge says what the answer's words are, or what is wrong with it,
// which Ask returns; it returns a *Failure or *TokenError too. It blocks as Do does.
func (s *Session) Ask(ctx context.Context, j *uplink.Journal, r *Request, outcome uplink.Outcome, judge func(*Answer) (words string, err error)) error {
	began := time.Now()
	a, err := s.Do(ctx, r)
	x := uplink.Exchange{Time: began, Duration: time.Since(began), Method: r.Method, Where: Show(r.URL), Outcome: outcome}
	if err == nil {
		x.Status = a.Status
		x.Words, err = judge(a)
	}
	if err != nil {
		x.Words = err.Error()
	}
	j.Note(x)
	return err
}
