package admin

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/sluice-edge/sluice/buffer"
)

// Forgotten is what was kept for an uplink that is forgotten.
type Forgotten struct {
	Uplink      string `json:"uplink"`
	Events      uint64 `json:"events"`
	Bytes       int64  `json:"bytes"`
	DeadLetters uint64 `json:"dead_letters"`
}

// forgetQuery names an uplink and why it is forgotten.
type forgetQuery struct {
	Uplink string `json:"uplink"`
	Reason string `json:"reason"`
}

// forgetUplink drops the claim of an uplink that is not in the config.
func (s *Server) forgetUplink(w http.ResponseWriter, r *http.Request) error {
	var q forgetQuery
	if err := read(r, &q); err != nil {
		return err
	}
	if strings.TrimSpace(q.Reason) == "" {
		return badRequest("a reason is needed: --reason \"...\"; it is kept in the audit log")
	}
	if _, configured := s.Uplink(q.Uplink); configured {
		return conflict("uplink %q is in the config: take it out and start the gateway again, then it can be forgotten", q.Uplink)
	}
	var detail string
	known := false
	for _, stats := range s.Store.Stats().Queues {
		if stats.Uplink == q.Uplink {
			known = true
			detail = fmt.Sprintf("%d events of %d bytes, %d dead letters; reason: %s", stats.Backlog, stats.Bytes, stats.DeadLetters, q.Reason)
		}
	}
	if !known {
		gone := slices.DeleteFunc(s.queueNames(), func(name string) bool {
			_, configured := s.Uplink(name)
			return configured
		})
		return notFound("%s", unknown("uplink of the store", q.Uplink, gone))
	}
	var kept buffer.QueueStats
	err := s.change(peer(r), "uplink.forget", q.Uplink, detail, func() (err error) {
		kept, err = s.Store.Forget(r.Context(), q.Uplink)
		return err
	})
	if errors.Is(err, buffer.ErrUplinkInUse) {
		return conflict("%v", err)
	}
	if err != nil {
		return err
	}
	return answer(w, Forgotten{Uplink: q.Uplink, Events: kept.Backlog, Bytes: kept.Bytes, DeadLetters: kept.DeadLetters})
}
