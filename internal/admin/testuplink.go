package admin

import (
	"context"
	"errors"
	"net/http"

	"github.com/sluice-edge/sluice/uplink"
)

// TestFunc tests an uplink of the running gateway; ok is false if it has none of
// that name. It blocks for uplink.TryTimeout at most.
type TestFunc func(ctx context.Context, name string) (t uplink.Tested, ok bool)

// testQuery names an uplink.
type testQuery struct {
	Uplink string `json:"uplink"`
}

// testUplink tries an uplink; that it was tried is in the audit log.
func (s *Server) testUplink(w http.ResponseWriter, r *http.Request) error {
	var q testQuery
	if err := read(r, &q); err != nil {
		return err
	}
	if _, configured := s.Uplink(q.Uplink); !configured {
		return notFound("%s", unknown("uplink", q.Uplink, s.queueNames()))
	}
	if s.Test == nil {
		return conflict("the gateway is stopped: the command tests the uplink itself")
	}
	var t uplink.Tested
	tried := false
	err := s.change(peer(r), "uplink.test", q.Uplink, "", func() error {
		if t, tried = s.Test(r.Context(), q.Uplink); tried && !t.OK {
			return errors.New(t.Error)
		}
		return nil
	})
	if err != nil && !tried {
		return err
	}
	return answer(w, t)
}
