package prodsmart

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
)

var _ uplink.Tester = (*Sender)(nil)

// Test implements uplink.Tester: it asks for the company's token with the API key.
// Where Prodsmart has none, which it may say by 404, one is made, as the first
// delivery would: that cuts nobody off, and nothing else tells it from a wrong path
// in url.
func (s *Sender) Test(ctx context.Context) error {
	ctx, cancel := s.client.Context(ctx)
	defer cancel()
	until := time.Now().Add(uplink.TryTimeout / 2)
	ask := func(method string, body []byte) (*httplink.Answer, outcome, *halt) {
		return s.do(ctx, &call{
			class: classState, method: method, path: authorization, header: s.basic, body: body, whole: true,
			asked: uplink.OutcomeTest, until: until,
		})
	}
	method := http.MethodGet
	a, o, h := ask(method, nil)
	if h == nil && (o == missing || a.Success() && a.Status != http.StatusOK) {
		method = http.MethodPost
		a, o, h = ask(method, []byte(wantedScopes))
		if h == nil && (o == missing || a.Success() && tokenIn(a) == "") {
			return problem("test", "neither GET nor POST %s gives a token (Prodsmart answers %s), so it is not Prodsmart's API that answers there; check url, and what is between here and Prodsmart", authorization, httplink.Title(a.Status))
		}
	}
	switch {
	case h == nil && o != taken:
		return problem("test", "%s", s.said(&call{method: method, path: authorization}, a))
	case h == nil && a.Status == http.StatusOK && tokenIn(a) == "":
		return problem("test", "GET %s: Prodsmart answers %s and gives no token; check url, and what is between here and Prodsmart", authorization, httplink.Title(a.Status))
	case h == nil:
		return nil
	case waitsForRoom(h):
		if left, cause := s.leftAlone(); left > 0 {
			return problem("test", "Prodsmart has asked not to be called for another %v, so it cannot be tried, and deliveries wait too: try again then; it said: %s",
				left.Round(time.Second), strings.TrimPrefix(cause.Error(), "prodsmart: "))
		}
		return problem("test", "the gateway's share of requests is used up for the moment, so it cannot be tried; deliveries go on: try again in a minute")
	default:
		return h.cause
	}
}
