//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-edge/sluice/internal/central"
	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/internal/torture/oracle"
)

// The receivers, by the names of the uplinks.
const (
	broker = "broker"
	erp    = "erp"
)

// sinks are the two receivers: a broker and an HTTP server. Each writes a line
// to an append-only ledger before it acknowledges.
type sinks struct {
	broker *plantsim.Broker
	server *http.Server
	addr   string
	ended  chan struct{}
	closed atomic.Bool
	// faults stand before what the HTTP server does.
	faults central.Faults
	// pulse is when something new last arrived at each.
	pulse pulse

	mu     sync.Mutex
	judge  *oracle.Oracle
	ledger *os.File
	poison *regexp.Regexp
	// refusal is the status of a refused event.
	refusal int
	// last is the event with the highest number by its machine, as its id.
	last map[string]lastEvent
}

type lastEvent struct {
	id       string
	sequence uint64
}

func newSinks(dir string) (*sinks, error) {
	ledger, err := os.OpenFile(filepath.Join(dir, "sink.ledger"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	s := &sinks{ledger: ledger, poison: poison, refusal: http.StatusUnprocessableEntity, last: map[string]lastEvent{}, ended: make(chan struct{})}
	s.broker = plantsim.NewBroker(func(topic string, payload []byte) {
		if !strings.HasSuffix(topic, "/status") && !strings.HasPrefix(topic, hadTopic) {
			s.arrive(broker, payload, false)
		}
	})
	if err := s.broker.Start(); err != nil {
		return nil, errors.Join(err, ledger.Close())
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, s.broker.Stop(), ledger.Close())
	}
	s.addr = listener.Addr().String()
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(s.ended)
		_ = s.server.Serve(listener) // it ends by Close only
	}()
	return s, nil
}

// tell sets who judges what arrives from now on.
func (s *sinks) tell(judge *oracle.Oracle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.judge = judge
}

func (s *sinks) arrive(name string, payload []byte, refused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.judge == nil {
		return
	}
	fmt.Fprintf(s.ledger, "%d\t%s\t%t\t%s\n", time.Now().UnixMilli(), name, refused, payload)
	s.judge.Arrive(name, payload, refused)
	s.pulse.beat(name)
	var e struct{ ID, Subject, Sequence string }
	if json.Unmarshal(payload, &e) != nil {
		return // the oracle has said so
	}
	if n, err := strconv.ParseUint(e.Sequence, 10, 64); err == nil && n > s.last[e.Subject].sequence {
		s.last[e.Subject] = lastEvent{e.ID, n}
	}
}

// hadTopic is where the broker keeps what was last had.
const hadTopic = "had/"

// remember lets the broker say what has arrived so far, of each machine.
func (s *sinks) remember() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for machine, last := range s.last {
		errs = append(errs, s.broker.Retain(hadTopic+machine, []byte(`{"id":"`+last.id+`"}`)))
	}
	return errors.Join(errs...)
}

// shut takes both receivers away, or brings them back.
func (s *sinks) shut(away bool) error {
	s.closed.Store(away)
	if away {
		return s.broker.Stop()
	}
	var err error
	for range 100 {
		if err = s.broker.Start(); err == nil {
			return nil
		}
		pause(50 * time.Millisecond) // somebody has the port for a moment
	}
	return err
}

// poison is a dose that the HTTP receiver refuses for good: one in a hundred.
var poison = regexp.MustCompile(`"lot":"L\d*77"`)

// refuse sets which events the HTTP receiver refuses.
func (s *sinks) refuse(these *regexp.Regexp) { s.refuseWith(these, http.StatusUnprocessableEntity) }

// refuseWith also sets the status that says so.
func (s *sinks) refuseWith(these *regexp.Regexp, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.poison, s.refusal = these, status
}

func (s *sinks) refuses(body []byte) (status int, yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refusal, s.poison.Match(body)
}

// ServeHTTP implements http.Handler.
func (s *sinks) ServeHTTP(answer http.ResponseWriter, r *http.Request) {
	s.faults.Serve(answer, r, func(w http.ResponseWriter, r *http.Request) { s.take(erp, w, r) })
}

// take books one event for the uplink of that name and answers.
func (s *sinks) take(name string, answer http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(answer, r.Body, 4<<20))
	if err != nil {
		return // the gateway was killed in the middle of its request
	}
	if s.closed.Load() {
		http.Error(answer, "closed", http.StatusServiceUnavailable)
		return
	}
	if status, yes := s.refuses(body); yes {
		s.arrive(name, body, true)
		http.Error(answer, "unknown lot", status)
		return
	}
	s.arrive(name, body, false)
	answer.WriteHeader(http.StatusNoContent)
}

func (s *sinks) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.server.Shutdown(ctx) // what hangs is closed next
	_ = s.server.Close()
	<-s.ended
	_ = s.broker.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.ledger.Close()
}
