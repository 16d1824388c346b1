package mqtt

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/sluice-edge/sluice/uplink"
)

var _ uplink.Informer = (*Sender)(nil)

// statusDocument is the payload of the status topic, retained, and of the will.
type statusDocument struct {
	Gateway string `json:"gateway"`
	Status  string `json:"status"`
	// Host is the computer, Instance this process: two gateways that use one client
	// identifier are told apart by them.
	Host     string `json:"host,omitempty"`
	Instance string `json:"instance,omitempty"`
	// ClientID keeps apart those who only share the topic, as the uplinks of one
	// gateway do.
	ClientID string `json:"client_id,omitempty"`
}

// self is who this process is at the broker.
type self struct {
	statusDocument
	// twin is another uplink of this gateway with the same client identifier; empty
	// if there is none.
	twin string
}

func whoami(gateway, client string) self {
	host, err := os.Hostname()
	if err != nil {
		host = "" // only people miss it
	}
	return self{statusDocument: statusDocument{Gateway: gateway, Host: host, Instance: rand.Text()[:8], ClientID: client}}
}

// sibling words an uplink of this gateway that uses the same client identifier,
// empty for none.
func sibling(name string) string {
	if name == "" {
		return ""
	}
	return "uplink " + name + " of this gateway"
}

// status returns the payload of the status topic.
func (s self) status(state string) []byte {
	d := s.statusDocument
	d.Status = state
	b, err := json.Marshal(d)
	if err != nil {
		panic(err) // texts always have a JSON form
	}
	return b
}

// rival names who wrote a status, empty if it was this process or cannot be told.
func (s self) rival(status []byte) string {
	var d statusDocument
	if json.Unmarshal(status, &d) != nil || d.Instance == "" || d.Instance == s.Instance || d.ClientID != "" && d.ClientID != s.ClientID {
		return ""
	}
	if s.twin != "" && d.Gateway == s.Gateway && d.Host == s.Host {
		return sibling(s.twin)
	}
	if d.Host == "" {
		return fmt.Sprintf("another gateway %q", d.Gateway)
	}
	return fmt.Sprintf("another gateway %q on the computer %q", d.Gateway, d.Host)
}

// trouble is one thing that is wrong, for people. Its methods may be called from
// any goroutine.
type trouble struct {
	mu    sync.Mutex
	err   error
	since time.Time
}

// note keeps what is wrong, nil for nothing any more.
func (t *trouble) note(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil && t.err == nil {
		t.since = time.Now()
	}
	t.err = err
}

// notice appends what is wrong.
func (t *trouble) notice(all []uplink.Notice, do string) []uplink.Notice {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		return all
	}
	return append(all, uplink.Notice{Since: t.since, Text: t.err.Error(), Do: do})
}

// Inform implements uplink.Informer.
func (s *Sender) Inform(to *uplink.Stats) {
	place := s.session.Place()
	if place.Passed != nil {
		to.Notices = append(to.Notices, uplink.Notice{
			Since: place.Since, Text: fmt.Sprintf("the spare broker %s is used: %v", place.Address, place.Passed),
			Do: "Look at the brokers before it. The gateway goes back by itself when one of them can be had.",
		})
	}
	if who, sure, since := s.session.Rival(); who != "" {
		n := uplink.Notice{
			Since: since, Text: who + "; the broker throws one out when the other comes, so events wait in turns",
			Do: "Give each gateway its own site: gateway:, or its own client_id in this uplink. This goes away once a session has lived for half a minute.",
		}
		switch {
		case sure && s.twin != "" && strings.HasPrefix(who, sibling(s.twin)):
			n.Do = "Leave client_id out of one of the two uplinks, or give each its own."
		case !sure:
			n.Text = "the broker ends each session soon: " + who
			n.Do = "Look into the broker's log, which says why. Let this user publish to its topics in the access rules; give each gateway its own site: gateway:, or its own client_id."
		}
		to.Notices = append(to.Notices, n)
	}
	to.Notices = s.files.notice(to.Notices, "Put files there that belong together; they are read again at the next connect.")
	to.Notices = s.secret.notice(to.Notices, "Let the gateway's user read the file; it is read again at the next connect.")
	if s.acks != nil {
		s.acks.fill(to)
	}
}
