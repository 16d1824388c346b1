package opcua

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/plant"
)

// On a computer that has too much to do the first values of a session come
// together, in the server's first report: none of a machine's numbers is behind
// the others.
func TestFirstValuesComeTogetherUnderLoad(t *testing.T) {
	s := newPLC(t, plantsim.OPCUAOptions{MaxItemsPerCall: 100})
	s.Update(func(n *plantsim.Nodes) {
		n.Set("Line.Good", uint32(100))
		n.Set("Line.Scrap", uint32(3))
	})
	ctx, cancel := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		busy.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				for range 1_000_000 {
					n++
				}
			}
		})
	}
	busy.Go(func() { // what is made meanwhile
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for n := uint32(1); ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			s.Update(func(nodes *plantsim.Nodes) {
				nodes.Set("Line.Good", 100+n)
				nodes.Set("Line.Scrap", 3+n)
			})
		}
	})
	defer busy.Wait()
	defer cancel()
	worst := time.Duration(0)
	for number := uint64(1); number <= 2; number++ {
		d := openText(t, "driver: opcua\nendpoint: opc.tcp://ENDPOINT\npublishing: 50ms\nqueue: 1000\ntimeout: 20s\ntags: {good: ns=2;s=Line.Good, scrap: ns=2;s=Line.Scrap, made: ns=2;s=Line.Made}\n", s.Addr())
		connect(t, d, number)
		begin := time.Now()
		scan := until(t, d, "the first values", func(plant.Scan) bool { return true })
		worst = max(worst, time.Since(begin))
		for _, tag := range []plant.TagID{"good", "scrap", "made"} {
			if r, ok := find(scan, tag); !ok || r.Quality != plant.Good || !scan.Snapshot {
				t.Errorf("session %d: %s is not among the first values: %+v", number, tag, scan)
			}
		}
		_ = d.Close()
	}
	t.Logf("with %d busy goroutines the first values came %v after the connection at the latest", runtime.GOMAXPROCS(0), worst.Round(time.Millisecond))
}
