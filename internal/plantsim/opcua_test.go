package plantsim_test

import (
	"context"
	"testing"
	"time"

	"github.com/gopcua/opcua"
	"github.com/gopcua/opcua/ua"

	"github.com/sluice-edge/sluice/internal/plantsim"
)

// A client of the library's own reads, writes, and finds the device again after
// it was away.
func TestOPCUA(t *testing.T) {
	s, err := plantsim.NewOPCUA(plantsim.OPCUAOptions{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	s.Set("Line.Made", uint32(7))
	s.Set("Line.Ack", false)
	s.OnWrite(func(n *plantsim.Nodes, w plantsim.OPCUAWrite) {
		if w.Node == "Line.Ack" && w.Value == true {
			n.Set("Line.Made", n.Get("Line.Made").(uint32)+1)
		}
	})
	addr := s.Addr()
	for life := range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		c, err := opcua.NewClient("opc.tcp://"+s.Addr(), opcua.AutoReconnect(false))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Connect(ctx); err != nil {
			t.Fatal(err)
		}
		made := c.Node(ua.MustParseNodeID("ns=2;s=Line.Made"))
		v, err := made.Value(ctx)
		if err != nil || v.Value() != uint32(7+life) {
			t.Errorf("life %d: %v, %v", life, v, err)
		}
		answer, err := c.Write(ctx, &ua.WriteRequest{NodesToWrite: []*ua.WriteValue{
			{NodeID: ua.MustParseNodeID("ns=2;s=Line.Ack"), AttributeID: ua.AttributeIDValue, Value: &ua.DataValue{EncodingMask: ua.DataValueValue, Value: ua.MustVariant(true)}},
			{NodeID: ua.MustParseNodeID("ns=2;s=Line.Made"), AttributeID: ua.AttributeIDValue, Value: &ua.DataValue{EncodingMask: ua.DataValueValue, Value: ua.MustVariant(int8(1))}},
			{NodeID: ua.MustParseNodeID("ns=2;s=Line.None"), AttributeID: ua.AttributeIDValue, Value: &ua.DataValue{EncodingMask: ua.DataValueValue, Value: ua.MustVariant(true)}},
		}})
		if err != nil || answer.Results[0] != ua.StatusOK || answer.Results[1] != ua.StatusBadTypeMismatch || answer.Results[2] != ua.StatusBadNodeIDUnknown {
			t.Fatalf("%+v, %v", answer, err)
		}
		if got := s.Get("Line.Made"); got != uint32(8+life) {
			t.Errorf("the hook left %v", got)
		}
		if n := s.Counts(); n.OpenSessions != 1 || n.Sessions != uint64(life+1) {
			t.Errorf("%+v", n)
		}
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		if _, err := made.Value(ctx); err == nil {
			t.Error("a device that is away answered")
		}
		_ = c.Close(ctx)
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		if s.Addr() != addr {
			t.Errorf("the address is %s, was %s", s.Addr(), addr)
		}
	}
}
