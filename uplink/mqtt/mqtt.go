// Package mqtt is the uplink to an MQTT 3.1.1 broker: each event is one
// CloudEvents JSON message, published with QoS 1 to a topic made from the
// machine's place in the plant. "Delivered" is the broker's word, its PUBACK.
package mqtt

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sluice-edge/sluice/internal/kind"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/mqttsession"
)

// Kind is the kind "mqtt" of an uplink.
var Kind = kind.NewKind("mqtt", defaults, plan)

// plan turns good Options into a Plan. It reads the certificates.
func plan(_ string, o Options) (uplink.Plan, error) {
	endpoints, err := o.endpoints()
	if err != nil {
		return uplink.Plan{}, err // Validate has seen it, so this does not happen
	}
	o.NeedsTime(o.least())
	var files trouble
	brokers, err := o.brokers(endpoints, files.note)
	if err != nil {
		return uplink.Plan{}, err
	}
	return uplink.Plan{
		Endpoint: endpoints[0].String(),
		Target:   endpoints[0].String() + " " + o.Topic,
		Bind:     string(o.Bind),
		Owns:     o.owns(endpoints[0].address),
		Carries:  o.Kinds.Carry,
		Codes:    o.Codes.ForCloudEvents(),
		Options:  o.Options,
		Open: func(env uplink.Env) uplink.Sender {
			return open(o, brokers, &files, env)
		},
	}, nil
}

// Sender publishes the events of all machines over one session.
type Sender struct {
	session   *mqttsession.Session
	topics    *topics
	maxPacket int
	// cursors are the topics that say what a receiver had last; nil if nobody is
	// asked.
	cursors *topics
	// states are the topics of the machines' states; nil if they are not published.
	states *topics
	// acks is nil if the receiver acknowledges nothing itself; ackWait is set if an
	// event is delivered only then.
	acks    *acks
	ackWait bool
	// files is what is wrong with renewed certificates, secret with the password.
	files, secret *trouble
	brokers       int
	sendTimeout   time.Duration
	env           uplink.Env
	// twin is another uplink of this gateway with the same client_id at the broker.
	twin string

	// testing keeps two tests apart and guards tests, their number so far.
	testing sync.Mutex
	tests   uint64
}

var _ uplink.Sender = (*Sender)(nil)

func open(o Options, brokers []mqttsession.Broker, files *trouble, env uplink.Env) *Sender {
	place := newPlace(env.Path, env.Gateway)
	place.lines, place.cells = o.Lines, o.Cells
	s := &Sender{
		topics: newTopics(o.Topic, place), maxPacket: int(o.MaxPacket), env: env,
		files: files, secret: &trouble{}, brokers: len(brokers), sendTimeout: o.SendTimeout.Std(), ackWait: o.AckWait,
		twin: env.Shared["client_id"],
	}
	if o.CursorTopic != "" {
		s.cursors = newTopics(o.CursorTopic, place)
	}
	if o.StateTopic != "" {
		s.states = newTopics(o.StateTopic, place)
	}
	s.session = mqttsession.New(s.settings(o, brokers, place))
	return s
}

// settings are those of the session.
func (s *Sender) settings(o Options, brokers []mqttsession.Broker, place place) mqttsession.Options {
	env := s.env
	client := o.ClientID
	if client == "" {
		client = "sluice-" + env.Gateway + "-" + env.Name
	}
	self := whoami(env.Gateway, client)
	self.twin = s.twin
	settings := mqttsession.Options{
		Brokers:  watched(brokers, env.Expiries),
		Bind:     o.Bind,
		FailBack: o.FailBack.Std(),
		ClientID: client,
		User:     o.User,
		Password: func() string {
			clear, err := o.Password.Renewed()
			s.secret.note(err)
			return clear
		},
		StatusTopic:    expand(o.StatusTopic, place.value),
		Online:         self.status("online"),
		Offline:        self.status("offline"),
		Rival:          self.rival,
		Twin:           sibling(s.twin),
		Rest:           rivalRest,
		Window:         o.Window,
		WindowBytes:    int(o.WindowBytes),
		KeepAlive:      o.KeepAlive.Std(),
		ConnectTimeout: o.ConnectTimeout.Std(),
		WriteTimeout:   writeTimeout,
		AckTimeout:     o.AckTimeout.Std(),
		Log:            env.Log,
	}
	if o.AckTopic != "" {
		s.acks = newAcks(o.AckWithin.Std(), env.Log)
		settings.Listen = &mqttsession.Listen{Topic: expand(o.AckTopic, place.value), Limit: maxAck, Heard: s.acks.heard, Refused: s.acks.listening}
	}
	return settings
}

const (
	// writeTimeout bounds one write to the socket.
	writeTimeout = 5 * time.Second
	// rivalRest is how long another gateway of the same client_id is left alone.
	rivalRest = 10 * time.Second
)

// Send implements uplink.Sender: it publishes the events in order and waits for
// each PUBACK.
func (s *Sender) Send(ctx context.Context, m plant.MachineID, events []plant.Event) []plant.Result {
	messages, large := s.render(m, events)
	if s.acks != nil {
		s.acks.onTheirWay(m, events[:len(messages)])
	}
	acked, err := s.session.Publish(ctx, string(m), messages)
	if s.acks != nil {
		s.acks.notThere(m, events[acked:len(messages)])
		if s.ackWait && acked > 0 {
			var unheard error
			if acked, unheard = s.acks.wait(ctx, m, events[:acked]); unheard != nil {
				return taken(events, acked, plant.Result{Cause: unheard})
			}
		}
	}
	switch {
	case acked == len(messages) && large != nil:
		return taken(events, acked, large[0])
	case err != nil:
		return taken(events, acked, failure(&events[acked], err))
	default:
		return taken(events, acked, plant.Result{})
	}
}

// taken are the Results where the first n events are delivered and rest is what
// became of the next, if there is one.
func taken(events []plant.Event, n int, rest plant.Result) []plant.Result {
	results := make([]plant.Result, 0, 2)
	if n > 0 {
		results = append(results, plant.Result{First: events[0].Sequence, Last: events[n-1].Sequence, Status: plant.Delivered})
	}
	if n < len(events) && (rest.Cause != nil || rest.Status != plant.Retry) {
		rest.First, rest.Last = events[n].Sequence, events[n].Sequence
		results = append(results, rest)
	}
	return results
}

// render makes the messages of the events up to the first that is too large,
// and the Result of that one. They share one buffer.
func (s *Sender) render(m plant.MachineID, events []plant.Event) ([]mqttsession.Message, []plant.Result) {
	const envelope = 768 // more than the attributes take, unless names are long
	size := 0
	for i := range events {
		size += len(events[i].Data) + envelope
	}
	buffer := make([]byte, 0, size)
	messages := make([]mqttsession.Message, 0, len(events))
	for i := range events {
		e := &events[i]
		topic := s.topics.of(m, e.Kind)
		from := len(buffer)
		buffer = s.env.Codes.AppendCloudEvent(buffer, e)
		payload := buffer[from:len(buffer):len(buffer)]
		if packet := len(payload) + len(topic) + packetOverhead; packet > s.maxPacket {
			return messages, []plant.Result{{First: e.Sequence, Last: e.Sequence, Status: plant.Rejected, Cause: &tooLarge{packet, s.maxPacket}}}
		}
		messages = append(messages, mqttsession.Message{ID: uint64(e.Sequence), Topic: topic, Payload: payload})
	}
	return messages, nil
}

// packetOverhead is what a PUBLISH takes besides topic and payload: a fixed
// header of at most 5 bytes, the topic's length and the packet identifier (MQTT
// 3.1.1 section 3.3).
const packetOverhead = 5 + 2 + 2

// tooLarge is the Cause of an event that is not sent at all.
type tooLarge struct{ size, limit int }

// Error implements error.
func (e *tooLarge) Error() string {
	return fmt.Sprintf("the message of %d bytes is larger than max_packet (%d bytes); the broker would end the session", e.size, e.limit)
}

// Sort implements uplink.Sorter.
func (e *tooLarge) Sort() string { return "larger than max_packet" }

// failure turns an error of the session into the Result of the first event
// without a PUBACK.
func failure(e *plant.Event, err error) plant.Result {
	r := plant.Result{First: e.Sequence, Last: e.Sequence, Cause: &uplink.LinkError{Err: fmt.Errorf("mqtt: %w", err)}}
	var poison *mqttsession.PoisonError
	var suspect *mqttsession.SuspectError
	var wait *mqttsession.WaitError
	switch {
	case errors.As(err, &poison):
		r.Status, r.Cause = plant.Rejected, poison
	case errors.As(err, &wait):
		r.Wait = wait.For
	case errors.As(err, &suspect):
		r.Wait = suspect.For
		r.Cause = &uplink.LinkError{Err: fmt.Errorf("mqtt: %w", err), Suspect: true}
	}
	return r
}

// Close implements io.Closer: it ends the session after the status "offline".
// It blocks for at most two seconds.
func (s *Sender) Close() error { return s.session.Close() }
