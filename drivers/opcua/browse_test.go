package opcua

import (
	"fmt"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/plant"
)

// listed browses a server at addr.
func listed(t *testing.T, addr string, o drivers.BrowseOptions) drivers.Listing {
	t.Helper()
	section, _ := config.ParseSection("plc", "test.yaml", "{driver: opcua, endpoint: \"opc.tcp://"+addr+"\", tags: {state: i=2259}}")
	p, faults := Kind.Check(section)
	if errs := faults.Errors(); len(errs) > 0 {
		t.Fatal(errs)
	}
	got, err := p.Browse(t.Context(), drivers.Env{Name: "plc", Log: zap.NewNop()}, o)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func everything() drivers.BrowseOptions {
	return drivers.BrowseOptions{Depth: 20, Most: 1000, Values: true}
}

// outline is a listing as people read it.
func outline(l drivers.Listing) string {
	var out strings.Builder
	for _, n := range l.Nodes {
		fmt.Fprintf(&out, "%s%s", strings.Repeat(" ", n.Depth), n.Name)
		if n.Variable {
			fmt.Fprintf(&out, "=%s:%s:%v", n.Value, n.Type, n.Tag)
		}
		out.WriteByte('\n')
	}
	return out.String()
}

const filler = `FillerDB
 Count
  Bad=12:UInt32:uint32
  Total=4711:UInt32:uint32
 Curve=:array of Float:unknown
 Order=ORD-1:String:string
 Running=true:Boolean:bool
`

func fillerNodes(n *plantsim.Nodes) {
	n.Set("FillerDB.Count.Total", uint32(4711))
	n.Set("FillerDB.Count.Bad", uint32(12))
	n.Set("FillerDB.Running", true)
	n.Set("FillerDB.Order", "ORD-1")
	n.Set("FillerDB.Curve", []float32{1, 2, 3})
}

// A server is walked through whatever its limits are, named or not, and however
// its answers are cut into pages; circles end.
func TestBrowse(t *testing.T) {
	for name, o := range map[string]plantsim.OPCUAOptions{
		"as it comes":   {},
		"circles":       {Circles: true},
		"pages":         {BrowsePage: 2, Circles: true},
		"named limit":   {MaxNodesPerBrowse: 1, MaxNodesPerRead: 3, BrowsePage: 1},
		"unnamed limit": {MaxNodesPerBrowse: 1, MaxNodesPerRead: 4, Unnamed: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := browsed(t, o)
			s.Update(func(n *plantsim.Nodes) { n.Clear(); fillerNodes(n) })
			got := listed(t, s.Addr(), everything())
			if outline(got) != filler || got.More || len(got.Problems) > 0 {
				t.Errorf("got\n%s%v %v\nwant\n%s", outline(got), got.More, got.Problems, filler)
			}
			if name == "named limit" && s.Counts().TooMany > 0 {
				t.Errorf("%d requests were over the limits that it names", s.Counts().TooMany)
			}
			n := got.Nodes[3]
			if n.Path != "FillerDB/Count/Total" || n.Address != "ns=2;s=FillerDB.Count.Total" || n.Stable != "nsu="+plantsim.OPCUANamespace+";s=FillerDB.Count.Total" || !n.Writable || n.Quality != plant.Good || n.Source.IsZero() {
				t.Errorf("%+v", n)
			}
			if got.Nodes[4].Unusable == "" {
				t.Errorf("an array is called usable: %+v", got.Nodes[4])
			}
		})
	}
}

// What is listed is bounded, and it is said that there is more; a listing may
// begin anywhere.
func TestBrowseIsBounded(t *testing.T) {
	s := browsed(t, plantsim.OPCUAOptions{BrowsePage: 10})
	s.Update(func(n *plantsim.Nodes) {
		n.Clear()
		fillerNodes(n)
		for i := range 100 {
			n.Set(fmt.Sprintf("Many.N%03d", i), int16(i))
		}
	})
	o := everything()
	o.Most = 25
	if got := listed(t, s.Addr(), o); len(got.Nodes) != 25 || !got.More {
		t.Errorf("%d nodes, more: %v", len(got.Nodes), got.More)
	}
	o = everything()
	o.Depth = 1
	if got := listed(t, s.Addr(), o); outline(got) != "FillerDB\nMany\n" || !got.More {
		t.Errorf("got %s, more: %v", outline(got), got.More)
	}
	o = everything()
	o.From = "nsu=" + plantsim.OPCUANamespace + ";s=FillerDB.Count"
	if got := listed(t, s.Addr(), o); outline(got) != "Bad=12:UInt32:uint32\nTotal=4711:UInt32:uint32\n" || got.More {
		t.Errorf("got %s", outline(got))
	}
	o.From = "ns=2;s=Nowhere"
	if got := listed(t, s.Addr(), o); len(got.Nodes) > 0 || len(got.Problems) != 1 || !strings.Contains(got.Problems[0], "the server has no such node") {
		t.Errorf("%+v", got)
	}
	if open := s.Counts().OpenSessions; open != 0 {
		t.Errorf("%d sessions are left open", open)
	}
}

func browsed(t *testing.T, o plantsim.OPCUAOptions) *plantsim.OPCUA {
	t.Helper()
	o.Addr = "127.0.0.1:0"
	s, err := plantsim.NewOPCUA(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// A server that nobody here wrote, with narrow limits.
func TestForeignServerBrowsed(t *testing.T) {
	f := newForeign(t)
	got := listed(t, f.addr(), everything())
	variables := map[string]drivers.Node{}
	for _, n := range got.Nodes {
		if n.Variable && strings.HasPrefix(n.Path, "Line/") {
			variables[n.Name] = n
		}
	}
	order := variables["Order"]
	if len(variables) < 123 || order.Value != plant.TextValue("AW1") || order.Tag != plant.TypeString || order.Stable != "nsu=urn:line;s=Line.Order" || variables["V0"].Tag != plant.TypeUint32 {
		t.Errorf("%d variables, %+v\n%v", len(variables), order, got.Problems)
	}
	all := everything()
	all.All, all.Most = true, 5000 // with the server's own nodes, which lead in circles
	if got := listed(t, f.addr(), all); len(got.Nodes) < 200 || got.More {
		t.Errorf("%d nodes, more: %v, %v", len(got.Nodes), got.More, got.Problems)
	}
}
