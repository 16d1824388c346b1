package status

import (
	"fmt"
	"net/http"
	"strings"
)

// serveHealth says whether the process can do its work. Only a latched buffer
// makes it unhealthy: restarting cures nothing that is wrong with a device, the
// network or a receiver.
func (s *Server) serveHealth(w http.ResponseWriter, _ *http.Request) {
	if fault := s.source.Snapshot().Buffer.Fault; fault != "" {
		plain(w, http.StatusServiceUnavailable, "the buffer stopped after a failed write and records nothing until the gateway is restarted: "+fault)
		return
	}
	plain(w, http.StatusOK, "ok")
}

// serveReady says whether every stage has started. A device, a broker or a
// server that is away does not make the gateway unready: waiting for them is its
// work.
func (s *Server) serveReady(w http.ResponseWriter, _ *http.Request) {
	snap := s.source.Snapshot()
	reasons := snap.Waiting
	if snap.Buffer.Fault != "" {
		reasons = append([]string{"the buffer stopped after a failed write: " + snap.Buffer.Fault}, reasons...)
	}
	switch {
	case snap.Ready && snap.Buffer.Fault == "":
		plain(w, http.StatusOK, "ready")
	case len(reasons) == 0:
		plain(w, http.StatusServiceUnavailable, "not ready: starting")
	default:
		plain(w, http.StatusServiceUnavailable, "not ready:\n- "+strings.Join(reasons, "\n- "))
	}
}

func plain(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	// The client may have gone; there is nobody left to tell.
	_, _ = fmt.Fprintln(w, text)
}
