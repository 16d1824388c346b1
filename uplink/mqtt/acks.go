package mqtt

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

const (
	// maxAck bounds one acknowledgement of the receiver.
	maxAck = 256 << 10
	// maxOpen bounds the ranges of events of one machine that the receiver has not
	// acknowledged; beyond it the two oldest become one.
	maxOpen = 1000
)

// acks follows what the receiver behind the broker has acknowledged at ack_topic.
// Its methods may be called from any goroutine.
type acks struct {
	within time.Duration
	log    *zap.Logger

	mu sync.Mutex
	// open are the ranges that the broker has and the receiver has not
	// acknowledged, of each machine, ascending.
	open     map[plant.MachineID][]openRange
	accepted uint64
	bad      uint64
	badText  string
	badSince time.Time
	// refused says why the broker does not let this client listen.
	refused      error
	refusedSince time.Time
	// changed is closed and replaced at each acknowledgement.
	changed chan struct{}
}

// openRange are events that the broker has since then, without one that is missing
// in between.
type openRange struct {
	first, last plant.Sequence
	since       time.Time
}

func newAcks(within time.Duration, log *zap.Logger) *acks {
	return &acks{within: within, log: log, open: map[plant.MachineID][]openRange{}, changed: make(chan struct{})}
}

// runs calls do for each run of events whose numbers follow on one another: what
// other uplinks get lies between them.
func runs(events []plant.Event, do func(first, last plant.Sequence)) {
	for i := 0; i < len(events); {
		j := i + 1
		for j < len(events) && events[j].Sequence == events[j-1].Sequence+1 {
			j++
		}
		do(events[i].Sequence, events[j-1].Sequence)
		i = j
	}
}

// onTheirWay notes events before they are published: the receiver may answer
// before the broker does. Those that are sent again keep their age.
func (a *acks) onTheirWay(m plant.MachineID, events []plant.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	runs(events, func(first, last plant.Sequence) {
		since := time.Now()
		for _, r := range a.open[m] {
			if r.last >= first && r.first <= last && r.since.Before(since) {
				since = r.since
			}
		}
		a.cut(m, first, last)
		list := append(a.open[m], openRange{first, last, since})
		slices.SortFunc(list, func(x, y openRange) int { return cmp.Compare(x.first, y.first) })
		if len(list) > maxOpen {
			list[1].first, list[1].since = list[0].first, list[0].since
			list = slices.Delete(list, 0, 1)
		}
		a.open[m] = list
	})
}

// notThere takes back what did not get to the broker.
func (a *acks) notThere(m plant.MachineID, events []plant.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	runs(events, func(first, last plant.Sequence) { a.cut(m, first, last) })
}

// cut takes events out of the open ranges and returns how many were in them.
func (a *acks) cut(m plant.MachineID, first, last plant.Sequence) (n uint64) {
	list := a.open[m]
	var rest []openRange
	for _, r := range list {
		if r.last < first || r.first > last {
			rest = append(rest, r)
			continue
		}
		n += uint64(min(r.last, last)-max(r.first, first)) + 1
		if r.first < first {
			rest = append(rest, openRange{r.first, first - 1, r.since})
		}
		if r.last > last {
			rest = append(rest, openRange{last + 1, r.last, r.since})
		}
	}
	if a.open[m] = rest; len(rest) == 0 {
		delete(a.open, m)
	}
	return n
}

// heard takes one message of the receiver's, nil for one that is too large.
func (a *acks) heard(payload []byte) {
	got, err := parseAck(payload)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		if a.bad++; a.badText != err.Error() {
			a.badText, a.badSince = err.Error(), time.Now()
			a.log.Warn("an acknowledgement of the receiver cannot be read", zap.Error(err))
		}
		return
	}
	a.badText = ""
	for _, g := range got {
		a.accepted += a.cut(g.machine, g.first, g.last)
	}
	close(a.changed)
	a.changed = make(chan struct{})
}

// listening notes whether the broker lets this client listen.
func (a *acks) listening(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil && a.refused == nil {
		a.refusedSince = time.Now()
		a.log.Warn("the receiver's acknowledgements cannot be heard", zap.Error(err))
	}
	a.refused = err
}

// wait blocks until the receiver has acknowledged events of a machine, or within is
// over. It returns how many of them, from the first, it has.
func (a *acks) wait(ctx context.Context, m plant.MachineID, events []plant.Event) (n int, err error) {
	timer := time.NewTimer(a.within)
	defer timer.Stop()
	for {
		n, changed, refused := a.look(m, events)
		if n == len(events) {
			return n, nil
		}
		if refused != nil {
			return n, fmt.Errorf("mqtt: the receiver's acknowledgements cannot be heard: %w", refused)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return n, ctx.Err()
		case <-timer.C:
			return n, fmt.Errorf("mqtt: the broker has the event, but the receiver has not acknowledged it within %v; look whether the MES runs and publishes to ack_topic", a.within)
		}
	}
}

// look returns how many of the events, from the first, the receiver has.
func (a *acks) look(m plant.MachineID, events []plant.Event) (n int, changed <-chan struct{}, refused error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := a.open[m]
	for n < len(events) {
		e := events[n].Sequence
		for len(list) > 0 && list[0].last < e {
			list = list[1:]
		}
		if len(list) > 0 && list[0].first <= e {
			break
		}
		n++
	}
	return n, a.changed, a.refused
}

// fill completes a snapshot.
func (a *acks) fill(s *uplink.Stats) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s.Accepted, s.BadAcks = a.accepted, a.bad
	for _, list := range a.open {
		for _, r := range list {
			s.Unaccepted += int(r.last-r.first) + 1
			if s.Oldest.IsZero() || r.since.Before(s.Oldest) {
				s.Oldest = r.since
			}
		}
	}
	if !s.Oldest.IsZero() && time.Since(s.Oldest) > a.within {
		s.Notices = append(s.Notices, uplink.Notice{
			Since: s.Oldest, Text: fmt.Sprintf("the broker has events that the receiver has not acknowledged, %d of them", s.Unaccepted),
			Do: "Look whether the MES runs, is subscribed, and publishes to ack_topic. What it has lost can be sent again: sluice events resend.",
		})
	}
	if a.badText != "" {
		s.Notices = append(s.Notices, uplink.Notice{Since: a.badSince, Text: "an acknowledgement of the receiver cannot be read: " + a.badText, Do: "Look at what the MES publishes to ack_topic."})
	}
	if a.refused != nil {
		s.Notices = append(s.Notices, uplink.Notice{Since: a.refusedSince, Text: "the receiver's acknowledgements cannot be heard: " + a.refused.Error(), Do: "Let the gateway's user read ack_topic in the broker's access rules."})
	}
}

// ack is one range that a message acknowledges.
type ack struct {
	machine     plant.MachineID
	first, last plant.Sequence
}

// ackDocument is one acknowledgement: of one event by its id, of several, or of
// all of a machine up to a number.
type ackDocument struct {
	ID      string          `json:"id"`
	IDs     []string        `json:"ids"`
	Machine plant.MachineID `json:"machine"`
	UpTo    plant.Sequence  `json:"up_to"`
}

// parseAck reads a message at ack_topic: a JSON object, a list of objects, a list
// of ids, or ids as plain text, one a line. Other members are nobody's business,
// so a whole event will do.
func parseAck(payload []byte) (all []ack, err error) {
	if payload == nil {
		return nil, fmt.Errorf("it is larger than %d bytes", maxAck)
	}
	text := bytes.TrimSpace(payload)
	var docs []ackDocument
	switch {
	case len(text) == 0:
		return nil, errors.New("it is empty")
	case text[0] == '{':
		docs = make([]ackDocument, 1)
		err = json.Unmarshal(text, &docs[0])
	case text[0] == '[':
		var ids []string
		if json.Unmarshal(text, &ids) == nil {
			docs = []ackDocument{{IDs: ids}}
		} else {
			err = json.Unmarshal(text, &docs)
		}
	default:
		docs = []ackDocument{{IDs: strings.Fields(string(text))}}
	}
	if err != nil {
		return nil, fmt.Errorf("it is no JSON of the form that is expected: %w", err)
	}
	for _, d := range docs {
		if all, err = d.append(all); err != nil {
			return nil, err
		}
	}
	if len(all) == 0 {
		return nil, errors.New("it names no event")
	}
	return all, nil
}

func (d *ackDocument) append(all []ack) ([]ack, error) {
	ids := d.IDs
	if d.ID != "" {
		ids = append(ids, d.ID)
	}
	for _, text := range ids {
		id, err := plant.ParseEventID(text)
		if err != nil {
			return nil, err
		}
		all = append(all, ack{id.Machine, id.Sequence, id.Sequence})
	}
	if d.UpTo > 0 {
		if d.Machine == "" {
			return nil, errors.New("up_to is there without a machine")
		}
		all = append(all, ack{d.Machine, 1, d.UpTo})
	}
	return all, nil
}

// validateAcks checks ack_topic and what goes with it.
func (o Options) validateAcks() error {
	var errs []error
	bad := func(path, problem, remedy string) { errs = append(errs, config.Field(path, problem, remedy)) }
	if o.AckWithin < config.Duration(time.Second) || o.AckWithin > config.Duration(24*time.Hour) {
		bad("ack_within", "it must be from 1s to 24h", "leave it out for 30s")
	}
	if o.AckTopic == "" {
		if o.AckWait {
			bad("ack_wait", "there is no ack_topic to wait for", "write ack_topic, the topic to which the MES publishes what it has taken")
		}
		return errors.Join(errs...)
	}
	if err := checkTemplate("ack_topic", o.AckTopic, statusPlaceholders); err != nil {
		return errors.Join(append(errs, err)...)
	}
	if o.AckTopic == o.Topic || o.AckTopic == o.StatusTopic || o.AckTopic == o.StateTopic {
		bad("ack_topic", "the gateway itself publishes to that topic", "write a topic that only the MES publishes to, for example sluice/{site}/ack")
	}
	return errors.Join(errs...)
}
