package opcua

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/plant"
)

// A message that is lost on its way, or that comes twice, ends the session with its
// name. What came before it was handed over, nothing behind it is; the next session
// begins with where things stand.
func TestALostMessageIsNamed(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(n int, r *ua.PublishResponse) (kept bool)
		want string
	}{
		{"lost", func(n int, _ *ua.PublishResponse) bool { return n != 3 }, "what it held is lost"},
		{"a number too far", func(n int, r *ua.PublishResponse) bool {
			if n >= 3 {
				r.NotificationMessage.SequenceNumber += mostEarly
			}
			return true
		}, "what it sent in between is lost"},
		{"a number twice", func(n int, r *ua.PublishResponse) bool {
			if n >= 3 {
				r.NotificationMessage.SequenceNumber--
			}
			return true
		}, "what it sent in between is lost"},
		{"the subscription has ended", func(n int, r *ua.PublishResponse) bool {
			if n == 3 {
				r.NotificationMessage.NotificationData = []*ua.ExtensionObject{ua.NewExtensionObject(&ua.StatusChangeNotification{Status: ua.StatusBadTimeout, DiagnosticInfo: &ua.DiagnosticInfo{}})}
			}
			return true
		}, "the server has ended the subscription"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newPLC(t, plantsim.OPCUAOptions{})
			m := newMeddler(t, s.Addr())
			messages := 0
			m.change(id.PublishResponse_Encoding_DefaultBinary, func(r ua.Response) bool {
				p := r.(*ua.PublishResponse)
				if p.NotificationMessage == nil || len(p.NotificationMessage.NotificationData) == 0 {
					return true
				}
				messages++
				return c.edit(messages, p)
			})
			d := openText(t, "driver: opcua\nendpoint: opc.tcp://ENDPOINT\npublishing: 50ms\nqueue: 1\ntags: {made: ns=2;s=Line.Made}\n", m.addr)
			defer d.Close()
			connect(t, d, 1)
			stop := make(chan struct{})
			var counting sync.WaitGroup
			counting.Go(func() { // a count each 20 ms
				for n := uint32(10_000); ; n++ {
					select {
					case <-stop:
						return
					case <-time.After(20 * time.Millisecond):
						s.Set("Line.Made", n)
					}
				}
			})
			defer counting.Wait()
			defer close(stop)
			came := 0
			var err error
			ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
			defer cancel()
			for err == nil {
				var scans []plant.Scan
				if scans, err = d.Read(ctx); err == nil {
					came += len(scans)
				}
			}
			if !strings.Contains(err.Error(), c.want) || came != 2 {
				t.Fatalf("after %d messages: %v, want %q after 2", came, err, c.want)
			}
			m.set(0, nothing)
			connect(t, d, 2)
			scan := until(t, d, "again", func(s plant.Scan) bool { _, ok := find(s, "made"); return ok })
			if r, _ := find(scan, "made"); !scan.Snapshot || r.Quality != plant.Good {
				t.Errorf("%+v, want a good snapshot", scan)
			}
		})
	}
}
