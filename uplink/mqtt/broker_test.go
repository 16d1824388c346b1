package mqtt

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink/uplinktest"
)

// eventTopic is where the brokers of the tests look for events.
const eventTopic = "ev/{machine}/{kind}"

// cursorTopic is where the brokers of the tests keep what was last had.
const cursorTopic = "had/{machine}"

// arrivals collects what a broker has accepted.
type arrivals struct {
	mu  sync.Mutex
	all []uplinktest.Arrival
}

func (a *arrivals) add(topic string, payload []byte) {
	if !strings.HasPrefix(topic, "ev/") {
		return
	}
	var e struct{ Source, ID string }
	if err := json.Unmarshal(payload, &e); err != nil {
		e.ID = err.Error()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = append(a.all, uplinktest.Arrival{Source: e.Source, ID: e.ID, Body: append([]byte(nil), payload...)})
}

func (a *arrivals) Arrivals() []uplinktest.Arrival {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.all[:len(a.all):len(a.all)]
}

// embedded is a broker in this process.
type embedded struct {
	arrivals
	t      testing.TB
	addr   string
	server *mochi.Server
	hook   *brokerHook
	tls    *tls.Config
}

// brokerHook sees each PUBLISH before its PUBACK leaves.
type brokerHook struct {
	mochi.HookBase
	broker *embedded
	mu     sync.Mutex
	// user and password are wanted at CONNECT if user is set.
	user, password string
	connects       int
	status         []string
	// deaf refuses every subscription to a cursor.
	deaf bool
}

func (h *brokerHook) ID() string         { return "test" }
func (h *brokerHook) Provides(byte) bool { return true }
func (h *brokerHook) OnConnectAuthenticate(_ *mochi.Client, pk packets.Packet) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.connects++
	return h.user == "" || (string(pk.Connect.Username) == h.user && string(pk.Connect.Password) == h.password)
}
func (h *brokerHook) OnACLCheck(_ *mochi.Client, topic string, write bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return write || !h.deaf || !strings.HasPrefix(topic, "had/")
}
func (h *brokerHook) OnPublish(_ *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	h.mu.Lock()
	if pk.FixedHeader.Retain {
		h.status = append(h.status, pk.TopicName+" "+string(pk.Payload))
	}
	h.mu.Unlock()
	h.broker.add(pk.TopicName, pk.Payload)
	return pk, nil
}
func (h *brokerHook) OnWill(_ *mochi.Client, will mochi.Will) (mochi.Will, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.status = append(h.status, "will "+will.TopicName+" "+string(will.Payload))
	return will, nil
}

func (h *brokerHook) statuses() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.status...)
}

func newEmbedded(t testing.TB, change ...func(*embedded)) *embedded {
	b := &embedded{t: t, addr: uplinktest.Address(t)}
	b.hook = &brokerHook{broker: b}
	for _, c := range change {
		c(b)
	}
	b.Start()
	t.Cleanup(b.Stop)
	return b
}

func (b *embedded) Addr() string { return b.addr }

func (b *embedded) Start() {
	listener := listen(b.t, b.addr)
	if b.tls != nil {
		listener = tls.NewListener(listener, b.tls)
	}
	b.server = mochi.New(&mochi.Options{InlineClient: true, Logger: slog.New(slog.DiscardHandler)})
	if err := b.server.AddHook(b.hook, nil); err != nil {
		b.t.Fatal(err)
	}
	if err := b.server.AddListener(listeners.NewNet("test", listener)); err != nil {
		b.t.Fatal(err)
	}
	if err := b.server.Serve(); err != nil {
		b.t.Fatal(err)
	}
}

// Remember implements uplinktest.Rememberer.
func (b *embedded) Remember(m plant.MachineID, text string) {
	if err := b.server.Publish("had/"+string(m), []byte(text), true, 0); err != nil {
		b.t.Fatal(err)
	}
}

func (b *embedded) Stop() {
	if b.server != nil {
		if err := b.server.Close(); err != nil {
			b.t.Errorf("stop the embedded broker: %v", err)
		}
		b.server = nil
	}
}

// listen listens there, again after a restart.
func listen(t testing.TB, addr string) net.Listener {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// mosquitto is Eclipse Mosquitto in a process of its own. What it has accepted
// is what a subscriber of its own gets.
type mosquitto struct {
	arrivals
	t          testing.TB
	path, addr string
	folder     string
	more       string // further lines of its config
	process    *exec.Cmd
	ended      chan struct{}
	subscriber paho.Client
}

func newMosquitto(t testing.TB) *mosquitto {
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		if path = "/usr/sbin/mosquitto"; !exists(path) {
			t.Skip("mosquitto is not installed here; the embedded broker stands in for it")
		}
	}
	b := &mosquitto{t: t, path: path, addr: uplinktest.Address(t), folder: t.TempDir()}
	b.Start()
	t.Cleanup(b.Stop)
	return b
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (b *mosquitto) Addr() string { return b.addr }

func (b *mosquitto) Start() {
	host, port, _ := net.SplitHostPort(b.addr)
	file := filepath.Join(b.folder, "mosquitto.conf")
	conf := fmt.Sprintf("listener %s %s\nallow_anonymous true\npersistence false\nmax_inflight_messages 0\nmax_queued_messages 0\n%s", port, host, b.more)
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		b.t.Fatal(err)
	}
	b.process = exec.Command(b.path, "-c", file)
	if err := b.process.Start(); err != nil {
		b.t.Fatal(err)
	}
	ended := make(chan struct{})
	b.ended = ended
	go func(p *exec.Cmd) {
		_ = p.Wait() // it is ended by a signal
		close(ended)
	}(b.process)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		o := paho.NewClientOptions().AddBroker("tcp://" + b.addr).SetClientID("oracle").
			SetProtocolVersion(4).SetConnectTimeout(time.Second).SetAutoReconnect(false)
		b.subscriber = paho.NewClient(o)
		if t := b.subscriber.Connect(); t.Wait() && t.Error() == nil {
			break
		}
		if time.Now().After(deadline) {
			b.t.Fatal("mosquitto does not answer")
		}
	}
	t := b.subscriber.Subscribe("ev/#", 1, func(_ paho.Client, m paho.Message) { b.add(m.Topic(), m.Payload()) })
	if t.Wait(); t.Error() != nil {
		b.t.Fatal(t.Error())
	}
}

// Remember implements uplinktest.Rememberer.
func (b *mosquitto) Remember(m plant.MachineID, text string) {
	t := b.subscriber.Publish("had/"+string(m), 1, true, text)
	if t.Wait(); t.Error() != nil {
		b.t.Fatal(t.Error())
	}
}

func (b *mosquitto) Stop() {
	if b.process == nil {
		return
	}
	b.subscriber.Disconnect(100)
	if err := b.process.Process.Signal(os.Interrupt); err != nil {
		b.t.Errorf("stop mosquitto: %v", err)
	}
	<-b.ended
	b.process = nil
}
