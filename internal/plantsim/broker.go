package plantsim

import (
	"fmt"
	"log/slog"
	"net"
	"sync"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/sluice-edge/sluice/internal/faultnet"
)

// Broker is an embedded MQTT broker on loopback whose receiver sees each
// publish before the broker acknowledges it, so that a PUBACK means that the
// receiver has the event. Stop and Start take it away and bring it back on the
// same port. Its methods may be called from any goroutine.
type Broker struct {
	receive func(topic string, payload []byte)

	mu      sync.Mutex
	port    *faultnet.Port // from the first Start on
	server  *mqtt.Server
	outages int
	// kept is what Retain was given, by topic.
	kept map[string][]byte
}

// NewBroker returns a stopped broker; receive is called for every publish, from
// the publishing client's goroutine, and must not keep payload.
func NewBroker(receive func(topic string, payload []byte)) *Broker {
	return &Broker{receive: receive, kept: map[string][]byte{}}
}

// Start listens, at the first time on a free port.
func (b *Broker) Start() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.server != nil {
		return nil
	}
	if b.port == nil {
		port, err := faultnet.KeepPort("127.0.0.1")
		if err != nil {
			return fmt.Errorf("plantsim: start broker: %w", err)
		}
		b.port = port
	}
	listener, err := net.Listen("tcp", b.port.Addr())
	if err != nil {
		return fmt.Errorf("plantsim: start broker: %w", err)
	}
	server := mqtt.New(&mqtt.Options{InlineClient: true, Logger: slog.New(slog.DiscardHandler)})
	err = server.AddHook(new(auth.AllowHook), nil)
	if err == nil {
		err = server.AddHook(&receiverHook{receive: b.receive}, nil)
	}
	if err == nil {
		err = server.AddListener(listeners.NewNet("t", listener))
	}
	if err == nil {
		err = server.Serve()
	}
	if err != nil {
		_ = listener.Close()
		return fmt.Errorf("plantsim: start broker: %w", err)
	}
	b.server = server
	for topic, payload := range b.kept {
		if err := server.Publish(topic, payload, true, 0); err != nil {
			return fmt.Errorf("plantsim: retain %s: %w", topic, err)
		}
	}
	return nil
}

// Retain makes payload the message that is retained at a topic, also over Stop and
// Start, as a client of the broker would publish it; receive sees it, too.
func (b *Broker) Retain(topic string, payload []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kept[topic] = payload
	if b.server == nil {
		return nil
	}
	if err := b.server.Publish(topic, payload, true, 0); err != nil {
		return fmt.Errorf("plantsim: retain %s: %w", topic, err)
	}
	return nil
}

// Stop closes the listener and every connection.
func (b *Broker) Stop() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.server == nil {
		return nil
	}
	err := b.server.Close()
	b.server = nil
	b.outages++
	if err != nil {
		return fmt.Errorf("plantsim: stop broker: %w", err)
	}
	return nil
}

// Outages returns how often the broker was stopped.
func (b *Broker) Outages() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.outages
}

// Addr returns host:port, which stays the same over Stop and Start; "" before the
// first Start.
func (b *Broker) Addr() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.port == nil {
		return ""
	}
	return b.port.Addr()
}

// receiverHook hands publishes to the receiver before they are acknowledged.
type receiverHook struct {
	mqtt.HookBase
	receive func(topic string, payload []byte)
}

// ID implements mqtt.Hook.
func (h *receiverHook) ID() string { return "receiver" }

// Provides implements mqtt.Hook.
func (h *receiverHook) Provides(b byte) bool { return b == mqtt.OnPublish }

// OnPublish implements mqtt.Hook.
func (h *receiverHook) OnPublish(_ *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	h.receive(pk.TopicName, pk.Payload)
	return pk, nil
}
