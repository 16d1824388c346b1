package modbus

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-edge/sluice/drivers"
)

// Each unit's share of a line is the time that it was asked in, not that in which
// it waited for the others; a unit that does not answer costs its time-outs.
func TestUnitsAreChargedForTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBareBus(func(request []byte) [][]byte {
			if request[0] == 9 {
				return nil
			}
			return [][]byte{ownRegisters(request)}
		})
		l := onWire(t, b, "")
		begun := time.Now()
		good, dead := onLine(t, l, "unit: 7\n"+fourTags), onLine(t, l, "unit: 9\n"+fourTags)
		for _, d := range []*driver{good, dead} {
			defer d.Close()
			if err := d.Connect(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
		}
		before := good.Used()
		if _, err := dead.Read(t.Context()); err == nil {
			t.Fatal("a unit that is off answers")
		}
		if after := good.Used(); after != before {
			t.Errorf("the good unit is charged %v for the dead one", after-before)
		}
		if _, err := good.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		var s drivers.Sharer = dead
		if s.Used() < 400*time.Millisecond || good.Used() <= before || s.Used()+good.Used() > time.Since(begun) {
			t.Errorf("dead %v, good %v of %v", s.Used(), good.Used(), time.Since(begun))
		}
		if own := (&driver{}).Used(); own != 0 {
			t.Errorf("a device without a line is charged %v", own)
		}
	})
}
