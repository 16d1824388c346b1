package admin

import (
	"net/http"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/internal/audit"
)

// backup streams a copy of the store. It changes nothing, so an audit log that
// cannot be written does not keep anybody from it: the disk may be dying.
func (s *Server) backup(w http.ResponseWriter, r *http.Request) error {
	out := newStream(w, "application/octet-stream")
	info, err := s.Store.Backup(r.Context(), out)
	e := audit.Entry{By: peer(r), Action: "backup", Object: s.Gateway, Detail: "sha256 " + info.Sum, Outcome: audit.Done}
	if err != nil {
		e.Outcome, e.Detail = audit.Failed, err.Error()
	}
	if _, auditErr := s.Audit.Append(e); auditErr != nil {
		s.Log.Error("the audit log has no word of a backup", zap.Error(auditErr))
	}
	return out.end(err)
}
