package opcua

import (
	"testing"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/plant"
)

// A server may keep a session for a shorter time than it was asked to: one that is
// polled more seldom is kept alive between two polls.
func TestASessionIsKeptBetweenTwoPolls(t *testing.T) {
	s := newPLC(t, plantsim.OPCUAOptions{})
	m := newMeddler(t, s.Addr())
	m.change(id.CreateSessionResponse_Encoding_DefaultBinary, func(r ua.Response) bool {
		r.(*ua.CreateSessionResponse).RevisedSessionTimeout = 600 // ms
		return true
	})
	d := openText(t, "driver: opcua\nendpoint: opc.tcp://ENDPOINT\npoll: 1h\ntags: {made: ns=2;s=Line.Made}\n", m.addr)
	defer d.Close()
	connect(t, d, 1)
	until(t, d, "first", func(s plant.Scan) bool { _, ok := find(s, "made"); return ok })
	before := m.count(id.ReadResponse_Encoding_DefaultBinary)
	for deadline := time.Now().Add(patience); m.count(id.ReadResponse_Encoding_DefaultBinary) < before+3; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody asks the server for anything between two polls")
		}
	}
}
