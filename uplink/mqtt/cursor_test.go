package mqtt

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/mqttsession"
	"github.com/sluice-edge/sluice/uplink/uplinktest"
)

func TestCursorTopicIsChecked(t *testing.T) {
	for topic, want := range map[string]string{
		"":                               "",
		"sluice/{site}/{machine}/cursor": "",
		"{enterprise}/{area}/{gateway}/had-{machine}": "",
		"sluice/{site}/cursor":                        "does not say where the machine's code goes",
		"sluice/{machine}/{kind}":                     "there is no placeholder {kind}",
		"sluice/+/{machine}":                          "wildcard",
		"sluice/{machine}/#":                          "wildcard",
		"$share/g/{machine}":                          "begins with $",
		"a//{machine}":                                "empty level",
		defaults().Topic + "/{mashine}":               "did you mean {machine}",
		"everything/{machine}":                        "events go to that topic",
	} {
		o := testOptions("127.0.0.1:1883")
		o.CursorTopic = topic
		if strings.HasPrefix(topic, "everything") {
			o.Topic = topic
		}
		err := o.Validate()
		if (want == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", topic, err, want)
		}
	}
}

func TestWithoutACursorTopicNobodyIsAsked(t *testing.T) {
	s := openWith(t, testOptions("127.0.0.1:1")).(*Sender)
	defer s.Close()
	if last, err := s.Last(t.Context(), "M-1"); last != (plant.EventID{}) || err != nil {
		t.Errorf("Last = %v, %v", last, err)
	}
}

// TestARefusedSubscriptionIsTold with the topic and the remedy, and costs nothing
// else.
func TestARefusedSubscriptionIsTold(t *testing.T) {
	b := newEmbedded(t)
	b.hook.deaf = true
	o := testOptions(b.Addr())
	o.CursorTopic = cursorTopic
	s := openWith(t, o).(*Sender)
	defer s.Close()
	_, err := s.Last(t.Context(), "M-1")
	var refused *mqttsession.RefusedError
	if !errors.As(err, &refused) || refused.Topic != "had/M-1" || !strings.Contains(err.Error(), "access rules") {
		t.Errorf("Last: %v", err)
	}
	if r := s.Send(t.Context(), "M-1", uplinktest.Events("M-1", 1, 3)); len(r) != 1 || r[0].Status != plant.Delivered || r[0].Last != 3 {
		t.Errorf("results %+v", r)
	}
}

// TestMosquittoHidesWhatItRefuses: with an acl_file mosquitto takes the subscription
// and keeps the message back, so that nothing shows a missing right. docs/events.md
// warns of it; if this fails, the warning can go.
func TestMosquittoHidesWhatItRefuses(t *testing.T) {
	b := newMosquitto(t)
	b.Stop()
	rules := filepath.Join(b.folder, "acl")
	if err := os.WriteFile(rules, []byte("topic write sluice/#\ntopic readwrite ev/#\ntopic write had/#\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	b.more = "user root\nacl_file " + rules + "\n" // started by root it would become a user who cannot read here
	b.Start()
	b.Remember("M-1", `{"id":"`+uplinktest.Events("M-1", 9, 1)[0].ID().String()+`"}`)
	o := testOptions(b.Addr())
	o.CursorTopic = cursorTopic
	s := openWith(t, o).(*Sender)
	defer s.Close()
	if last, err := s.Last(t.Context(), "M-1"); last != (plant.EventID{}) || err != nil {
		t.Errorf("Last = %v, %v; want nothing and no error", last, err)
	}
}

// reconcilingQueue notes what the receiver had.
type reconcilingQueue struct {
	*memoryQueue
	reconcile func(last plant.EventID)
}

func (q *reconcilingQueue) Reconcile(_ context.Context, _ plant.MachineID, last plant.EventID) error {
	q.reconcile(last)
	return nil
}

// TestTheForwarderReconcilesWithTheCursor: what is retained reaches the queue
// before the first event goes out.
func TestTheForwarderReconcilesWithTheCursor(t *testing.T) {
	b := newEmbedded(t)
	last := uplinktest.Events("M-1", 99, 1)[0].ID()
	b.Remember("M-1", `{"id":"`+last.String()+`"}`)
	had := make(chan plant.EventID, 10)
	q := &reconcilingQueue{
		memoryQueue: &memoryQueue{order: make(chan plant.MachineID, 1), streams: map[plant.MachineID][]plant.Event{"M-1": uplinktest.Events("M-1", 1, 50)}, left: make(chan int, 1)},
	}
	q.reconcile = func(last plant.EventID) {
		if n := len(b.Arrivals()); n > 0 {
			t.Errorf("%d events arrived before the receiver was asked", n)
		}
		had <- last
	}
	q.order <- "M-1"
	q.left <- 50
	o := testOptions(b.Addr())
	o.CursorTopic = cursorTopic
	f := uplink.NewForwarder("broker", q, openWith(t, o), o.Options, zap.NewNop())
	stop := forward(t, f)
	if got := <-had; got != last {
		t.Errorf("reconciled with %v, want %v", got, last)
	}
	eventually(t, "all 50", func() bool { return len(b.Arrivals()) >= 50 })
	stop()
}
