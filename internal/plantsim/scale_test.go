package plantsim_test

import (
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/plant"
)

func newScale(t *testing.T, o plantsim.ScaleOptions) *plantsim.Scale {
	t.Helper()
	s, err := plantsim.NewScale("127.0.0.1:0", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.PLC().Stop() })
	return s
}

// offered returns the trigger and the record's number and weight.
func offered(s *plantsim.Scale) (offer bool, number, grams uint16) {
	s.PLC().Update(func(b *plantsim.Bank) {
		offer, number, grams = b.Coil(plantsim.ScaleOffer), b.Holding(plantsim.ScaleNumber), b.Holding(plantsim.ScaleQuantity+1)
	})
	return offer, number, grams
}

func acknowledge(s *plantsim.Scale, on bool) {
	s.PLC().Update(func(b *plantsim.Bank) { b.SetCoil(plantsim.ScaleAck, on) })
	s.Cycle()
}

func TestAScaleOffersOneRecordAfterTheOther(t *testing.T) {
	s := newScale(t, plantsim.ScaleOptions{})
	s.Cycle()
	if offer, _, _ := offered(s); offer {
		t.Error("nothing was dosed, and a record is offered")
	}
	s.Dose(plantsim.Dose{Component: "SUGAR", Grams: 500, Target: 500})
	s.Dose(plantsim.Dose{Component: "SUGAR", Grams: 700, Target: 500})
	s.Cycle()
	for i, grams := range []uint16{500, 700} {
		for range 3 { // it waits
			s.Cycle()
			if offer, number, got := offered(s); !offer || number != uint16(i+1) || got != grams {
				t.Errorf("record %d: offer %v, number %d, %d g", i, offer, number, got)
			}
		}
		acknowledge(s, true)
		for range 3 { // the next one waits for the ack to fall
			s.Cycle()
			if offer, _, _ := offered(s); offer {
				t.Error("offered while the ack is high")
			}
		}
		acknowledge(s, false)
	}
	want := plantsim.Dosed{Doses: 2, Weight: plant.Decimal{Unscaled: 1200, Scale: 3}, Acknowledged: 2}
	if got := s.Dosed(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestAnAckForNothingIsAViolation(t *testing.T) {
	s := newScale(t, plantsim.ScaleOptions{})
	s.Cycle()
	acknowledge(s, true)
	s.Dose(plantsim.Dose{Grams: 1})
	s.Cycle()
	if offer, _, _ := offered(s); offer {
		t.Error("a record is offered to a stale ack")
	}
	acknowledge(s, false)
	if offer, _, _ := offered(s); !offer {
		t.Error("the record is not offered")
	}
	if got := s.Dosed(); got.Violations != 1 || got.Acknowledged != 0 || got.Waiting != 1 {
		t.Errorf("%+v", got)
	}
}

func TestAScaleKeepsItsRecordsOverARestart(t *testing.T) {
	s := newScale(t, plantsim.ScaleOptions{Pace: 10, Components: []string{"A", "B"}, Number: 65534})
	s.Advance(300 * time.Millisecond)
	if err := s.Restart(t.Context(), time.Millisecond); err != nil {
		t.Fatal(err)
	}
	for _, want := range []uint16{65535, 1, 2} {
		if offer, number, _ := offered(s); !offer || number != want {
			t.Errorf("offer %v of number %d, want %d", offer, number, want)
		}
		acknowledge(s, true)
		acknowledge(s, false)
	}
	if got := s.Dosed(); got.Doses != 3 || got.Acknowledged != 3 || got.Waiting != 0 || got.Violations != 0 {
		t.Errorf("%+v", got)
	}
}
