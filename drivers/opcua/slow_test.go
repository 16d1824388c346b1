package opcua

import (
	"strings"
	"testing"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/plant"
)

// A server that does not answer when it is asked what a structure is made of costs
// the tags that name its members, after two attempts, and no others.
func TestAServerThatDoesNotDescribeItsStructures(t *testing.T) {
	t.Run("it says nothing", func(t *testing.T) { undescribing(t, swallow, "the server gives no answer within") })
	t.Run("it hangs up", func(t *testing.T) { undescribing(t, cutOff, "the server closed the connection") })
}

func undescribing(t *testing.T, do fault, want string) {
	s := newPLC(t, plantsim.OPCUAOptions{})
	front := newMeddler(t, s.Addr()) // declares a type that has to be asked for
	front.change(id.ReadResponse_Encoding_DefaultBinary, func(r ua.Response) bool {
		if got := r.(*ua.ReadResponse).Results; len(got) == 2 && got[0].Value != nil {
			if _, ok := got[0].Value.Value().(*ua.NodeID); ok {
				got[0].Value = ua.MustVariant(ua.NewStringNodeID(2, "Drive"))
			}
		}
		return true
	})
	m := newMeddler(t, front.addr)
	m.set(id.BrowseResponse_Encoding_DefaultBinary, do)
	d := openText(t, "driver: opcua\nendpoint: opc.tcp://ENDPOINT\npublishing: 50ms\ntimeout: 1s\ntags:\n  made: ns=2;s=Line.Made\n  speed: {node: ns=2;s=Line.Running, member: Speed}\n", m.addr)
	defer d.Close()
	for session := uint64(1); session < strikes; session++ {
		err := d.Connect(t.Context(), session)
		if err == nil || !strings.Contains(err.Error(), "ask for the structure of ns=2;s=Line.Running: "+want) {
			t.Fatalf("the attempt %d: %v", session, err)
		}
	}
	if do == cutOff {
		_ = d.Connect(t.Context(), strikes) // the last one that is lost over it
	}
	connect(t, d, strikes+1)
	good := func(s plant.Scan) bool {
		r, ok := find(s, "made")
		return ok && r.Quality == plant.Good
	}
	until(t, d, "the other tag", good)
	asked := m.count(id.BrowseResponse_Encoding_DefaultBinary)
	connect(t, d, strikes+2)
	until(t, d, "the other tag, at once", good)
	if again := m.count(id.BrowseResponse_Encoding_DefaultBinary); asked != strikes || again != asked {
		t.Errorf("it was asked %d times, and %d more in the next session", asked, again-asked)
	}
	d.(*driver).describes.at = time.Now().Add(-2 * askAgain)
	m.set(0, nothing)
	connect(t, d, strikes+3)
	if again := m.count(id.BrowseResponse_Encoding_DefaultBinary); again == asked {
		t.Error("it is never asked again")
	}
}

// A server that is too slow for what one Browse asks is asked for less, and where
// that does not help what was found is listed all the same.
func TestBrowseOfASlowServer(t *testing.T) {
	const tree = "DB\n A=:UInt32:uint32\n B=:UInt32:uint32\n"
	for _, c := range []struct {
		name    string
		answers func(asked, nodes int) bool
		want    string
		problem string
	}{
		{"one node at a time", func(_, nodes int) bool { return nodes == 1 }, tree, ""},
		{"the first two only", func(asked, _ int) bool { return asked <= 2 }, tree, "DB/A: the server gives no answer within 1s when it is asked what is below; the list ends there"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := browsed(t, plantsim.OPCUAOptions{})
			s.Update(func(n *plantsim.Nodes) { n.Clear(); n.Set("DB.A", uint32(1)); n.Set("DB.B", uint32(2)) })
			m := newMeddler(t, s.Addr())
			asked := 0
			m.change(id.BrowseResponse_Encoding_DefaultBinary, func(r ua.Response) bool {
				asked++
				return c.answers(asked, len(r.(*ua.BrowseResponse).Results))
			})
			o := everything()
			o.Values = false
			p := checkPlan(t, "driver: opcua\nendpoint: opc.tcp://ENDPOINT\ntimeout: 1s\ntags: {state: i=2259}\n", m.addr)
			list, err := p.Browse(t.Context(), drivers.Env{Name: "dut", Log: zap.NewNop()}, o)
			if err != nil || outline(list) != c.want || strings.Join(list.Problems, "\n") != c.problem {
				t.Errorf("%v, %q\n%s\nwant %q\n%s", err, list.Problems, outline(list), c.problem, c.want)
			}
		})
	}
}
