package modbus

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/internal/faultnet"
	"github.com/sluice-edge/sluice/plant"
)

// A box that says only after a while that a unit is not there takes the line as
// long as a unit that is silent, and is asked as seldom; each block of the unit
// is asked for in turn, and all of them once it is back.
func TestABoxThatTakesLongToSayThatAUnitIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lag = 40 * time.Millisecond
		var back atomic.Bool
		var mu sync.Mutex
		asked := map[byte]int{}
		starts := map[byte]bool{} // of unit 10
		l := openLine(t, "framing: tcp\nendpoint: box:1")
		dial := wiredPeer(func(r []byte) [][]byte {
			mu.Lock()
			asked[r[6]]++
			if r[6] == 10 {
				starts[r[9]] = true
			}
			mu.Unlock()
			if r[6] >= 10 && !back.Load() {
				<-time.After(lag)
				return [][]byte{frame(r, r[6], 0x83, byte(gatewayTargetLost))}
			}
			return [][]byte{frame(r, r[6], 3, 2, r[8], r[9])}
		})
		l.(*line).dial = func(ctx context.Context) (wire, error) { return dial(ctx) }
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		defer running.Wait()
		defer cancel()
		pollers := map[int]*drivers.Poller{}
		for _, unit := range []int{1, 2, 10, 11, 12} {
			p := openPlan(t, "driver: modbus\nline: hall\ninterval: 50ms\ntimeout: 5s\nunit: "+itoa(unit)+
				"\ntags: {a: holding:1, b: holding:50, c: holding:100, d: holding:150}\n", "")
			o := p.PollerOptions(plant.DeviceID("unit-" + itoa(unit)))
			poller := drivers.NewPoller(o, p.Open(drivers.Env{Name: o.Device, Log: zap.NewNop(), Line: l}), nil, zap.NewNop())
			running.Go(func() { _ = poller.Run(ctx) })
			pollers[unit] = poller
		}
		good := func() int {
			mu.Lock()
			defer mu.Unlock()
			return asked[1]
		}
		await(t, "the absent units were asked for all they have", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(starts) == 4 && asked[10] > 4
		})
		mu.Lock()
		before := asked[10] + asked[11] + asked[12]
		mu.Unlock()
		begin, first := time.Now(), good()
		await(t, "the good unit is read", func() bool { return good()-first > 40 })
		mu.Lock()
		dead := asked[10] + asked[11] + asked[12] - before
		mu.Unlock()
		took := time.Since(begin)
		if most := int(took/(lag*probeShare)) + 2; dead > most {
			t.Errorf("the absent units were asked %d times in %v, want at most %d", dead, took, most)
		}
		if s := pollers[10].Stats(); !s.Connected || len(s.BadTags) != 4 || !strings.Contains(s.BadTags["d"], "exception 11") {
			t.Errorf("unit 10: connected %v, bad tags %v", s.Connected, s.BadTags)
		}
		back.Store(true)
		await(t, "they are back", func() bool {
			bad := 0
			for _, p := range pollers {
				bad += len(p.Stats().BadTags)
			}
			return bad == 0
		})
	})
}

// A device at whose address nobody answers, refuses the connection or says
// nothing is away: it is asked again soon, however long that lasts. One that
// answers wrongly or hangs up is not.
func TestWhoIsAway(t *testing.T) {
	silent := peer(t, func([]byte) [][]byte { return nil })
	wrong := peer(t, func(r []byte) [][]byte { return [][]byte{frame(r, r[6], 4, 2, 0, 0)} })
	gone, err := faultnet.KeepPort("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	defer gone.Close()
	for _, c := range []struct {
		name, address, timeout string
		away                   bool
	}{
		{"nobody listens", gone.Addr(), "20s", true},
		{"it says nothing", silent, "50ms", true},
		{"it answers wrongly", wrong, "20s", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := openPlan(t, "driver: modbus\nendpoint: "+c.address+"\ntimeout: "+c.timeout+"\ntags: {a: holding:1}\n", "")
			d := p.Open(drivers.Env{Name: "d", Log: zap.NewNop()})
			defer func() { _ = d.Close() }()
			err := d.Connect(t.Context(), 1)
			if err == nil {
				_, err = d.Read(t.Context())
			}
			if err == nil || errors.Is(err, drivers.ErrAway) != c.away {
				t.Errorf("%v: away %v, want %v", err, errors.Is(err, drivers.ErrAway), c.away)
			}
		})
	}
}

// A line whose box refuses the connection is away for each of its units.
func TestALineThatNobodyAnswersIsAway(t *testing.T) {
	gone, err := faultnet.KeepPort("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	defer gone.Close()
	l := openLine(t, "framing: tcp\nendpoint: "+gone.Addr())
	p := openPlan(t, "driver: modbus\nline: hall\ninterval: 50ms\nunit: 3\ntags: {a: holding:1}\n", "")
	d := p.Open(drivers.Env{Name: "d", Log: zap.NewNop(), Line: l})
	defer func() { _ = d.Close() }()
	if err := d.Connect(t.Context(), 1); !errors.Is(err, drivers.ErrAway) {
		t.Errorf("%v", err)
	}
}
