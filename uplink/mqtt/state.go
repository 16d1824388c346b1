package mqtt

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/internal/backoff"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/mqttsession"
)

var _ uplink.Runner = (*Sender)(nil)

const (
	// stateEvery is how often the machines' states are looked at.
	stateEvery = 500 * time.Millisecond
	// stateStream is the stream of state messages; no machine is named like that.
	stateStream = "_state"
	// Attempts to have a session though nothing is published are so far apart.
	leastReconnect, mostReconnect = 2 * time.Second, time.Minute
)

// stateDocument is the payload of a machine's state, retained.
type stateDocument struct {
	Machine plant.MachineID `json:"machine"`
	// State is running, stopped or unknown; Since is when it began.
	State  string     `json:"state"`
	Since  *time.Time `json:"since,omitempty"`
	Reason string     `json:"reason,omitempty"`
	Good   int64      `json:"good"`
	Scrap  int64      `json:"scrap"`
	Order  string     `json:"order,omitempty"`
	Shift  string     `json:"shift,omitempty"`
	Mode   string     `json:"mode,omitempty"`
	// Last is the number of the newest recorded event, Kind its kind, Time its time.
	Last plant.Sequence  `json:"last_sequence,omitempty"`
	Kind plant.EventKind `json:"last_kind,omitempty"`
	Time *time.Time      `json:"last_time,omitempty"`
}

// stateOf returns the payload of a state.
func stateOf(s *uplink.State) ([]byte, error) {
	d := stateDocument{
		Machine: s.Machine, State: "unknown", Reason: s.Reason, Good: s.Good, Scrap: s.Scrap,
		Order: s.Order, Shift: s.Shift, Mode: s.Mode, Last: s.Last, Kind: s.Kind, Since: instant(s.Since), Time: instant(s.Time),
	}
	if s.Running != nil {
		d.State = map[bool]string{true: "running", false: "stopped"}[*s.Running]
	}
	return json.Marshal(d)
}

func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Millisecond)
	return &t
}

// Run implements uplink.Runner: it keeps a session with the broker though there
// are no events, so that the gateway is online there, and publishes the states of
// the machines when they have changed.
func (s *Sender) Run(ctx context.Context) {
	ticker := time.NewTicker(stateEvery)
	defer ticker.Stop()
	again := backoff.Backoff{Min: leastReconnect, Max: mostReconnect}
	p := states{sender: s, told: map[plant.MachineID][]byte{}}
	var next time.Time
	for {
		err := s.session.Connect(ctx, !time.Now().Before(next))
		if err == nil {
			again.Reset()
			next = time.Time{}
			p.publish(ctx)
		} else if !time.Now().Before(next) {
			// Whoever sends tells of the failure.
			next = time.Now().Add(pauseAfter(err, &again))
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// pauseAfter is how long a session is not asked for again: as long as the error
// says, if it says so.
func pauseAfter(err error, again *backoff.Backoff) time.Duration {
	var wait *mqttsession.WaitError
	if errors.As(err, &wait) {
		return wait.For
	}
	return again.Next()
}

// states publishes what has changed.
type states struct {
	sender *Sender
	// told is what the broker has of each machine in the session of that number.
	told    map[plant.MachineID][]byte
	session uint64
	// failing is set after a failure, which is told once.
	failing bool
}

func (p *states) publish(ctx context.Context) {
	s := p.sender
	if s.states == nil || s.env.States == nil {
		return
	}
	if now := s.session.Place().Session; now != p.session {
		// Another session may be another broker, or one that has lost what it kept.
		clear(p.told)
		p.session = now
	}
	var changed []mqttsession.Message
	var machines []plant.MachineID
	all := s.env.States()
	for i := range all {
		payload, err := stateOf(&all[i])
		if err != nil {
			continue // numbers and texts always have a form
		}
		if m := all[i].Machine; !bytes.Equal(p.told[m], payload) {
			topic := s.states.of(m, "")
			if len(payload)+len(topic)+packetOverhead > s.maxPacket {
				continue
			}
			changed = append(changed, mqttsession.Message{ID: uint64(len(changed)), Topic: topic, Payload: payload, Retained: true})
			machines = append(machines, m)
		}
	}
	if len(changed) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.sendTimeout)
	defer cancel()
	n, err := s.session.Publish(ctx, stateStream, changed)
	for i := range n {
		p.told[machines[i]] = changed[i].Payload
	}
	if err != nil && !p.failing && ctx.Err() == nil {
		s.env.Log.Info("the states of machines could not be published; they are published again", zap.Error(err))
	}
	p.failing = err != nil
}
