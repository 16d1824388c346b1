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

// Test implements uplink.Tester: it asks for the company's token with the API key,
// which changes nothing and creates none. Prodsmart may have no token yet; that the
// key is right is all that a test has to show.
func (s *Sender) Test(ctx context.Context) error {
	ctx, cancel := s.client.Context(ctx)
	defer cancel()
	a, _, h := s.do(ctx, &call{
		class: classState, method: http.MethodGet, path: authorization, header: s.basic, whole: true,
		asked: uplink.OutcomeTest, until: time.Now().Add(uplink.TryTimeout / 2),
	})
	switch {
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
