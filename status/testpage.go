package status

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/uplink"
)

// testPath is the one path that does something. A test changes nothing in the
// plant nor at the receiver, so it needs no login; a page of somebody else cannot
// ask for it (see guard), and not more often than testEvery.
const testPath = "/uplinks/test"

// testEvery is how often an uplink is tried from the page.
const testEvery = 5 * time.Second

// testDoc is what the template of a test shows.
type testDoc struct {
	head
	Uplink string
	OK     bool
	// Words say what came of it, Requests what was asked and answered.
	Words    string
	Requests []string
}

// serveTest tries an uplink and says what came of it.
func (s *Server) serveTest(w http.ResponseWriter, r *http.Request) {
	snap := s.source.Snapshot()
	name := r.PostFormValue("uplink")
	doc := testDoc{head: s.head("Test of an uplink", "/log", &snap), Uplink: name}
	if !slices.Contains(snap.uplinkNames(), name) {
		doc.Error = "The config has no such uplink."
		s.show(w, http.StatusNotFound, "test", doc)
		return
	}
	if !s.mayTest(name, time.Now()) {
		doc.Error = "This uplink was tried a moment ago. Wait a few seconds."
		w.Header().Set("Retry-After", "5")
		s.show(w, http.StatusTooManyRequests, "test", doc)
		return
	}
	// Longer than other pages may take.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(uplink.TryTimeout + stall))
	tested, err := s.options.Desk.TestUplink(r.Context(), name)
	if err != nil {
		doc.Error = err.Error()
		s.show(w, http.StatusServiceUnavailable, "test", doc)
		return
	}
	doc.OK, doc.Words = tested.OK, tested.Error
	if tested.OK {
		doc.Words = "The system has taken the test, in " + tested.Took.Round(time.Millisecond/10).String() + "."
	}
	for i := range tested.Exchanges {
		x := newExchangeWords(&tested.Exchanges[i])
		if x != "" {
			doc.Requests = append(doc.Requests, x)
		}
	}
	s.show(w, http.StatusOK, "test", doc)
}

// newExchangeWords says what was asked and answered.
func newExchangeWords(x *uplink.Exchange) string {
	parts := []string{strings.TrimSpace(x.Method + " " + x.Where)}
	if x.Status > 0 {
		parts = append(parts, "status "+number(uint64(x.Status)))
	}
	parts = append(parts, x.Duration.Round(time.Millisecond/10).String())
	if x.Words != "" {
		parts = append(parts, x.Words)
	}
	return strings.Join(parts, " · ")
}

// mayTest reports whether an uplink was not tried just now.
func (s *Server) mayTest(name string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.tested[name]) < testEvery {
		return false
	}
	s.tested[name] = now
	return true
}
