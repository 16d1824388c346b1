package nextplus

import (
	"errors"
	"strings"
	"testing"

	fake "github.com/sluice-edge/sluice/internal/central/nextplus"
	"github.com/sluice-edge/sluice/plant"
)

// TestKilledWhileARequestIsOut: with park nobody sends it again but a person, and
// what was answered, or never went out, is not parked.
func TestKilledWhileARequestIsOut(t *testing.T) {
	s := newShop(t, fake.ERP{})
	s.options.OnLostReply = lostPark
	s.open()
	first, second, third := s.serial("add", "SN-1", ""), s.serial("add", "SN-2", ""), s.serial("add", "SN-3", "")
	s.accepted(first)
	s.open()                                                                    // its answer was settled
	s.settle(s.sender.Send(t.Context(), second.Machine, []plant.Event{second})) // noted
	same(t, statuses(s.sender.Send(t.Context(), second.Machine, []plant.Event{second})), plant.Delivered)
	s.open() // it was not
	r := s.send(second)
	same(t, statuses(r), plant.Rejected)
	if !errors.Is(r[0].Cause, errKilled) || !strings.Contains(r[0].Cause.Error(), "on_lost_reply is park") {
		t.Errorf("nobody is told what to do: %v", r[0].Cause)
	}
	if n := len(s.bodies(fake.DevicePath)); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
	s.open()
	s.accepted(second) // a person retries the dead letter
	s.accepted(third)

	s.server.Close()
	s.open() // without a connection that was there: what is written to that went out
	fourth := s.serial("add", "SN-4", "")
	same(t, statuses(s.send(fourth)), plant.Retry)
	s.open()
	same(t, statuses(s.send(fourth)), plant.Retry)
	s.faultless(fake.RuleDouble)
}

// TestKilledWhileAPartIsOutThatHadWaited: with park nobody but a person sends it
// again either.
func TestKilledWhileAPartIsOutThatHadWaited(t *testing.T) {
	s := newShop(t, fake.ERP{})
	s.options.OnLostReply = lostPark
	s.open()
	first, second := s.attach("add", 1, "SN-1", ""), s.attach("add", 2, "SN-1", "")
	same(t, statuses(s.send(first)), plant.Held)
	same(t, statuses(s.send(second)), plant.Held)
	s.accepted(s.serial("add", "SN-1", ""))
	once := func(e plant.Event) []plant.Result { return s.sender.Send(t.Context(), e.Machine, []plant.Event{e}) }
	noted := once(first)
	if same(t, statuses(noted), plant.Retry); !errors.Is(noted[0].Cause, errNoted) {
		t.Fatalf("it is not noted: %v", noted[0].Cause)
	}
	s.settle(noted)
	s.accepted(s.serial("add", "SN-2", "")) // the stream goes on meanwhile
	same(t, statuses(once(first)), plant.Delivered)
	s.open() // nobody settled that
	r := s.send(first)
	if same(t, statuses(r), plant.Rejected); !errors.Is(r[0].Cause, errKilled) {
		t.Errorf("nobody is told what to do: %v", r[0].Cause)
	}
	s.accepted(second)
	if n := len(s.bodies(fake.ItemPath)); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
	s.faultless()
}
