package mqtt

import (
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/render"
)

// TestEventsHaveTheReceiversCodes: what is published has the receiver's codes in its
// data, and its topic and attributes are as ever.
func TestEventsHaveTheReceiversCodes(t *testing.T) {
	broker := newEmbedded(t)
	o := testOptions(broker.Addr())
	table := config.Table[uplink.Code]{Rows: []config.Row[uplink.Code]{{Name: "code-1", Value: uplink.Code{Theirs: "4711"}}}}
	o.Codes.Waste, o.Codes.Machine = table, table
	if err := o.Validate(); err == nil || !strings.Contains(err.Error(), "codes.machine") {
		t.Errorf("a table of machines: %v", err)
	}
	p, err := plan("broker", o)
	if err != nil {
		t.Fatal(err)
	}
	codes := uplink.NewCodes(p.Codes, nil)
	s := p.Open(uplink.Env{Name: "broker", Gateway: "gw", Path: "/acme/lisbon/packing", Log: zap.NewNop(), Codes: codes})
	defer s.Close()
	e := render.Sample(plant.KindCounter, render.Full)
	e.Machine = "M"
	if got := s.Send(t.Context(), "M", []plant.Event{e}); len(got) != 1 || got[0].Status != plant.Delivered {
		t.Fatalf("results %+v", got)
	}
	want := strings.ReplaceAll(string(uplink.AppendCloudEvent(nil, &e)), `"code-1"`, `"4711"`)
	eventually(t, "the event", func() bool {
		all := broker.Arrivals()
		return len(all) == 1 && string(all[0].Body) == want
	})
}
