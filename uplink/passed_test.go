package uplink

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// of is a Cause of one sort whose words differ from event to event.
type of struct{ sort, text string }

func (o of) Error() string { return o.text }
func (o of) Sort() string  { return o.sort }

// What is passed over is counted by its reason, which is the sort where the words
// name the event; the reasons are bounded, the count is not.
func TestPassedOverIsCountedByReason(t *testing.T) {
	f := NewForwarder("erp", newFakeQueue(), nil, DefaultOptions(), zap.NewNop())
	q := newFakeQueue()
	q.add("m", plant.KindSerial, 4)
	events := q.streams["m"]
	pass := func(cause error) {
		v := judge(&batch{events: slices.Clone(events)}, []plant.Result{
			{First: 1, Last: 3, Status: plant.Skipped, Cause: cause}, {First: 4, Last: 4, Status: plant.Delivered},
		}, sending{refusals: &refusals{}, holdAfter: 5})
		f.pass(&v)
	}
	for i := range 3 {
		pass(of{`order source "sap"`, fmt.Sprintf("the order %d is from sap", i)})
	}
	pass(errors.New("no order"))
	pass(nil)
	want := []PassedOver{{`order source "sap"`, 9}, {"no order", 3}, {"the uplink gave no reason", 3}}
	if got := f.passed.list(); !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for i := range 2 * maxPassed {
		pass(fmt.Errorf("reason %c", 'a'+rune(i)))
	}
	all := f.passed.list()
	var sum uint64
	for _, p := range all {
		sum += p.Events
	}
	if len(all) != maxPassed+1 || sum != 15+3*2*maxPassed || all[0].Reason != "other reasons" {
		t.Errorf("%d reasons, %d events: %+v", len(all), sum, all)
	}
}
