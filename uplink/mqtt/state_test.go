package mqtt

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/faultnet"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/uplinktest"
)

// openAs opens a sender as the gateway does.
func openAs(t testing.TB, o Options, env uplink.Env) *Sender {
	t.Helper()
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	p, err := plan("broker", o)
	if err != nil {
		t.Fatal(err)
	}
	env.Name, env.Path = "broker", "/acme/lisbon/packing"
	if env.Log == nil {
		env.Log = zap.NewNop()
	}
	if env.Gateway == "" {
		env.Gateway = "gw"
	}
	return p.Open(env).(*Sender)
}

// runBeside runs what a sender does beside sending, until the test's end.
func runBeside(t testing.TB, s *Sender) {
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	t.Cleanup(func() {
		stop()
		running.Wait()
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
}

// What a machine is doing is at the broker within a second of a change, retained,
// at the topic of its line and cell; so is that the gateway is online, though no
// event is sent. After the broker's restart both are there again.
func TestStatesAreRetained(t *testing.T) {
	b := newMosquitto(t)
	running := true
	var mu sync.Mutex
	state := uplink.State{Machine: "PRESS-01", Running: &running, Since: time.UnixMilli(1_800_000_000_000), Good: 7, Order: "4711", Mode: "production", Last: 3, Kind: plant.KindCounter}
	o := testOptions(b.Addr())
	o.StatusTopic = "{enterprise}/{gateway}/status"
	o.StateTopic = "{enterprise}/{site}/{area}/{line}/{cell}/{machine}/state"
	o.Lines, o.Cells = map[string]uplink.Machines{"L/1": {"PRESS-*"}, "L2": {"*"}}, map[string]uplink.Machines{"C": {"OTHER"}}
	s := openAs(t, o, uplink.Env{States: func() []uplink.State {
		mu.Lock()
		defer mu.Unlock()
		return []uplink.State{state}
	}})
	runBeside(t, s)
	// A client that comes later sees what is retained.
	retained := func(topic string) (text string) {
		c := connect(t, b.Addr(), "screen")
		defer c.Disconnect(50)
		got := make(chan string, 1)
		subscribe(t, c, topic, func(p []byte) {
			select {
			case got <- string(p):
			default:
			}
		})
		select {
		case text = <-got:
		case <-time.After(200 * time.Millisecond):
		}
		return text
	}
	const topic = "acme/lisbon/packing/L%2F1/_/PRESS-01/state"
	is := func(want func(d *stateDocument) bool) func() bool {
		return func() bool {
			var d stateDocument
			return json.Unmarshal([]byte(retained(topic)), &d) == nil && want(&d)
		}
	}
	eventually(t, "the first state", is(func(d *stateDocument) bool {
		return d.State == "running" && d.Good == 7 && d.Order == "4711" && d.Since.UnixMilli() == 1_800_000_000_000 && d.Last == 3
	}))
	eventually(t, "online", func() bool { return strings.Contains(retained("acme/gw/status"), `"status":"online"`) })
	mu.Lock()
	stands := false
	state.Running, state.Reason = &stands, "JAM"
	mu.Unlock()
	began := time.Now()
	eventually(t, "the change", is(func(d *stateDocument) bool { return d.State == "stopped" && d.Reason == "JAM" }))
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("the change took %v", took)
	}
	b.Stop()
	b.Start()
	eventually(t, "the state after a restart", is(func(d *stateDocument) bool { return d.Reason == "JAM" }))
	eventually(t, "online after a restart", func() bool { return strings.Contains(retained("acme/gw/status"), `"status":"online"`) })
}

// Certificates and passwords are renewed without a restart: the next connect uses
// the new files, and while they do not go together the old ones.
func TestCertificatesAreRenewed(t *testing.T) {
	ours := uplinktest.NewAuthority(t)
	soon := time.Now().Add(time.Hour)
	broker := ours.Issue(t, "broker", soon, "127.0.0.1")
	ours.Issue(t, "old", soon)
	ours.Issue(t, "new", soon)
	var mu sync.Mutex
	allowed := "old"
	b := newEmbedded(t, func(b *embedded) {
		b.tls = &tls.Config{Certificates: []tls.Certificate{broker}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.Pool(t),
			VerifyConnection: func(c tls.ConnectionState) error {
				mu.Lock()
				defer mu.Unlock()
				if c.PeerCertificates[0].Subject.CommonName != allowed {
					return errors.New("that certificate is withdrawn")
				}
				return nil
			}}
	})
	proxy, err := faultnet.New(b.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	folder := t.TempDir()
	copyTo := func(name, from string) {
		text, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(folder+"/"+name, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	copyTo("cert.pem", string(ours.Cert("old")))
	copyTo("key.pem", string(ours.Key("old")))
	o := testOptions(proxy.Addr())
	o.URL, o.CA = "tls://"+proxy.Addr(), ours.CA()
	o.Cert, o.Key = config.Path(folder+"/cert.pem"), config.Path(folder+"/key.pem")
	s := openAs(t, o, uplink.Env{})
	defer s.Close()
	events := uplinktest.Events("M", 1, 4)
	deliver := func(what string, e plant.Event) {
		t.Helper()
		eventually(t, what, func() bool {
			r := s.Send(t.Context(), "M", []plant.Event{e})
			return len(r) == 1 && r[0].Status == plant.Delivered
		})
	}
	notices := func() (n []uplink.Notice) {
		var stats uplink.Stats
		s.Inform(&stats)
		return stats.Notices
	}
	deliver("the first event", events[0])

	copyTo("cert.pem", string(ours.Cert("new"))) // the key is still the old one
	proxy.Cut()
	deliver("an event by the certificate before", events[1])
	if n := notices(); len(n) != 1 || !strings.Contains(n[0].Text, "do not go together") {
		t.Errorf("notices %+v", n)
	}
	copyTo("key.pem", string(ours.Key("new")))
	mu.Lock()
	allowed = "new"
	mu.Unlock()
	proxy.Cut()
	deliver("an event by the new certificate", events[2])
	if n := notices(); len(n) != 0 {
		t.Errorf("notices %+v", n)
	}
}
