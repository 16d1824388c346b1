package prodsmart

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/central"
	"github.com/sluice-edge/sluice/uplink"
)

const (
	askToken  = "GET /api/authorization"
	makeToken = `POST /api/authorization {"scopes":["productions_write"]}`
	askList   = "GET /api/productions"
)

// list makes one request that needs the token, which waits for its turn so long at
// most.
func (r *rig) list(patience time.Duration) (outcome, *halt) {
	r.t.Helper()
	_, o, h := r.sender.withToken(r.t.Context(), &call{
		class: classOrders, method: http.MethodGet, path: "productions", whole: true, asked: uplink.OutcomeAsked, until: time.Now().Add(patience),
	})
	return o, h
}

// makesToken makes a token for a request whose own turn then does not come.
func (r *rig) makesToken() {
	r.t.Helper()
	turn := r.sender.budget.interval
	if _, h := r.list(2*turn + turn/2); h == nil || !waitsForRoom(h) {
		r.t.Fatalf("%+v", h)
	}
	if got := r.wire.asked(); !slices.Equal(got, []string{askToken, makeToken}) {
		r.t.Fatalf("asked\n\t%s", strings.Join(got, "\n\t"))
	}
}

// TestATokenThatLayAboutIsRenewed: it was made, and over before it was used first.
// That says nothing of what the API key may do.
func TestATokenThatLayAboutIsRenewed(t *testing.T) {
	for _, status := range []int{401, 403} {
		bubble(t, func(t *testing.T) {
			c := company()
			c.Refused = status
			r := newRig(t, c)
			r.makesToken()
			elapse(3 * time.Hour)
			if o, h := r.list(time.Minute); h != nil || o != taken {
				t.Errorf("%v %+v", o, h)
			}
			if got := r.wire.asked(); !slices.Equal(got, []string{askList, askToken, makeToken, askList}) {
				t.Errorf("asked\n\t%s", strings.Join(got, "\n\t"))
			}
			r.strict()
		})
	}
}

// TestAKeyThatMayNotIsSaid, though each token is made in one turn and refused in
// another: it is not renewed on and on.
func TestAKeyThatMayNotIsSaid(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, company())
		r.fake.Faults.Add(central.Answered(403, "").On("productions").Always())
		r.makesToken()
		var said *halt
		turn := r.sender.budget.interval
		for range 10 {
			if _, said = r.list(3*turn + turn/2); said != nil && !waitsForRoom(said) {
				break
			}
			r.fake.Revoke() // GET gives none, as the document has it
		}
		if said == nil || waitsForRoom(said) || linked(said) || !strings.Contains(said.cause.Error(), "403 Forbidden, even with a new token; check what the API key may do") {
			t.Fatalf("%+v", said)
		}
		uses := 0
		for _, line := range r.wire.asked() {
			if line == askList {
				uses++
			}
		}
		if uses != 2 {
			t.Errorf("it was asked %d times", uses)
		}
	})
}
