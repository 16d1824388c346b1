package nextplus

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	fake "github.com/sluice-edge/sluice/internal/central/nextplus"
	"github.com/sluice-edge/sluice/plant"
)

// TestIDsOutliveARestart: the ids of accepted adds are used by the updates and
// removes of a later process.
func TestIDsOutliveARestart(t *testing.T) {
	s := newShop(t, fake.ERP{}).open()
	s.accepted(s.serial("add", "SN-1", ""))
	s.open().accepted(s.attach("add", 1, "SN-1", ""), s.operation("add", 4, 1, ""), s.operation("add", 4, 0, ""))
	s.open().accepted(s.serial("update", "SN-2", "SN-1"))
	s.open().accepted(s.attach("add", 2, "SN-2", ""), s.attach("remove", 2, "SN-2", ""))
	s.open().accepted(s.operation("remove", 4, 1, ""), s.operation("remove", 4, 0, ""), s.serial("remove", "SN-2", ""))
	s.faultless() // it compares each id with the one that it gave
	if got := fields(t, s.bodies(fake.OperationPath)[2])["externalId"]; got != "ERP-OP-3" {
		t.Errorf("the report of 4 and 1 is taken back as %v", got)
	}
	for key := range s.memory {
		if strings.HasPrefix(key, "operation/") || strings.HasPrefix(key, "refused/") || strings.HasPrefix(key, "attach/STATION-1/2") {
			t.Errorf("%s is still remembered: %s", key, s.memory[key])
		}
	}
}

// TestWithoutAnExternalID: a receiver may name none; later calls go without, and
// say so.
func TestWithoutAnExternalID(t *testing.T) {
	s := newShop(t, fake.ERP{NoExternalID: true, Status: http.StatusNoContent}).open()
	s.accepted(s.serial("add", "SN-1", ""))
	if !strings.Contains(s.words(), "names no externalId") {
		t.Errorf("the journal says %q", s.words())
	}
	s.accepted(s.attach("add", 1, "SN-1", ""), s.attach("remove", 1, "SN-1", ""), s.serial("update", "SN-2", "SN-1"), s.serial("remove", "SN-2", ""))
	if !strings.Contains(s.words(), "without externalId") {
		t.Errorf("the journal says %q", s.words())
	}
	s.faultless()
}

// TestChildrenWaitForTheirParent, and only they: what the receiver refused to add
// is waited for, everything else goes on.
func TestChildrenWaitForTheirParent(t *testing.T) {
	refuse := true
	s := newShop(t, fake.ERP{Refuse: func(path string, f map[string]any) (int, string) {
		if refuse && path == fake.DevicePath && f["serial"] == "SN-1" {
			return http.StatusUnprocessableEntity, "the work order is locked"
		}
		return 0, ""
	}}).open()
	add := s.serial("add", "SN-1", "")
	results := s.send(add)
	same(t, statuses(results), plant.Rejected)
	if !strings.Contains(results[0].Cause.Error(), "the work order is locked") {
		t.Errorf("the receiver's words are lost: %v", results[0].Cause)
	}
	children := []plant.Event{s.attach("add", 1, "SN-1", ""), s.attach("remove", 1, "SN-1", ""), s.serial("update", "SN-1b", "SN-1"), s.serial("remove", "SN-1", "")}
	batch := []plant.Event{children[0], s.serial("add", "SN-2", ""), s.attach("add", 2, "SN-2", ""), s.operation("add", 1, 0, "SN-1"), children[2], children[3]}
	results = s.send(batch...)
	same(t, statuses(results), plant.Held, plant.Delivered, plant.Delivered, plant.Delivered, plant.Held, plant.Held)
	key := deviceKey("PUMP", "SN-1")
	if results[0].WaitsFor != key || results[4].WaitsFor != key || !strings.Contains(results[0].Cause.Error(), "the work order is locked") {
		t.Errorf("it waits for %q and %q: %v", results[0].WaitsFor, results[4].WaitsFor, results[0].Cause)
	}
	// Still so after a restart.
	same(t, statuses(s.open().send(children[0])), plant.Held)

	refuse = false
	s.accepted(add)
	s.accepted(children[0], children[1], children[2])
	if got := fields(t, s.bodies(fake.ItemPath)[1])["externalId"]; got == nil || got == "" {
		t.Errorf("the child names no parent: %v", s.bodies(fake.ItemPath)[1])
	}
	s.faultless()
}

// TestAnUnknownParent: an attach may come before the unit, from another machine's
// stream; it waits, unless the receiver has its serial numbers from elsewhere.
func TestAnUnknownParent(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Options)
		want   plant.Status
	}{
		"it waits":                  {func(*Options) {}, plant.Held},
		"the receiver knows better": {func(o *Options) { o.UnknownParent = parentSend }, plant.Delivered},
		"serials are not reported":  {func(o *Options) { o.Device = "" }, plant.Delivered},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t, fake.ERP{NoDevices: true})
			c.change(&s.options)
			s.open()
			attach := s.attach("add", 1, "SN-1", "")
			attach.Machine = "STATION-2"
			same(t, statuses(s.send(attach)), c.want)
			if c.want == plant.Delivered {
				if _, has := fields(t, s.bodies(fake.ItemPath)[0])["externalId"]; has || !strings.Contains(s.words(), "without the parent's externalId") {
					t.Errorf("it has an id, or nobody is told: %s", s.words())
				}
				return
			}
			s.accepted(s.serial("add", "SN-1", ""))
			s.accepted(attach)
			s.faultless()
		})
	}
}

// TestTheMemoryIsBounded: the oldest is forgotten first, and a later remove of it
// goes without its id.
func TestTheMemoryIsBounded(t *testing.T) {
	s := newShop(t, fake.ERP{})
	s.options.Remember = 3
	s.open()
	for i := range 40 {
		s.accepted(s.serial("add", fmt.Sprintf("SN-%d", i), ""))
	}
	devices := 0
	for key := range s.memory {
		if strings.HasPrefix(key, "device/") {
			devices++
		}
	}
	if devices != 3 || len(s.memory) != 3+3+1 {
		t.Errorf("%d units and %d keys are remembered: %v", devices, len(s.memory), s.memory)
	}
	s.accepted(s.serial("remove", "SN-39", ""), s.serial("remove", "SN-0", ""))
	if found := s.erp.Violations(); len(found) != 1 || found[0].Rule != fake.RuleExternalID {
		t.Errorf("got %v", found)
	}
}

// TestDamagedMemory: what is there and cannot be read is known to be there; the
// call goes without the id, and says so.
func TestDamagedMemory(t *testing.T) {
	s := newShop(t, fake.ERP{}).open()
	s.accepted(s.serial("add", "SN-1", ""))
	s.damage[deviceKey("PUMP", "SN-1")] = true
	s.accepted(s.attach("add", 1, "SN-1", ""))
	if !strings.Contains(s.words(), "without the parent's externalId") {
		t.Errorf("the journal says %q", s.words())
	}
	s.faultless(fake.RuleExternalID)
	// A store that fails is no answer: nothing is sent and nothing lost.
	broken := errors.New("the disk is gone")
	s.sender.memory = func(string) ([]byte, error) { return nil, broken }
	r := s.send(s.attach("add", 2, "SN-1", ""))
	same(t, statuses(r), plant.Retry)
	if !errors.Is(r[0].Cause, broken) || len(s.bodies(fake.ItemPath)) != 1 {
		t.Errorf("got %v", r[0].Cause)
	}
}
