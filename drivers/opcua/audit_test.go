package opcua

import (
	"context"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/drivers/driverstest"
	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/plant"
)

// openAudited opens a device that is audited all the time.
func openAudited(t *testing.T, s *plantsim.OPCUA, text string) (drivers.Driver, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.WarnLevel)
	d := checkPlan(t, text, s.Addr()).Open(drivers.Env{Name: driverstest.Device, Log: zap.New(core)})
	t.Cleanup(func() { d.Close() })
	d.(*driver).auditEvery = 50 * time.Millisecond
	connect(t, d, 1)
	until(t, d, "first", func(s plant.Scan) bool { _, ok := find(s, "made"); return ok })
	return d, logs
}

// An item that the server has forgotten is made anew, within its limits, while
// the session goes on; its first value is a snapshot.
func TestAForgottenItemIsMadeAnew(t *testing.T) {
	for _, limit := range []uint32{0, 4} {
		s := newPLC(t, plantsim.OPCUAOptions{MaxNodesPerRead: limit, MaxItemsPerCall: limit})
		before := s.Counts().Sessions // the ordinary server is shared with the tests before
		d, logs := openAudited(t, s, section)
		s.Mute("Line.Made")
		s.Mute("Line.Word")
		s.Mute("Line.Order")
		s.Set("Line.Made", uint32(9))
		s.Set("Line.Word", uint16(9))
		s.Update(func(n *plantsim.Nodes) { n.Remove("Line.Order") })
		scan := until(t, d, "the change", func(s plant.Scan) bool { r, ok := find(s, "made"); return ok && r.Value == plant.UintValue(9) })
		if !scan.Snapshot || scan.Session != 1 {
			t.Errorf("%+v", scan)
		}
		s.Set("Line.Made", uint32(10))
		until(t, d, "the next one", func(s plant.Scan) bool { r, ok := find(s, "made"); return ok && r.Value == plant.UintValue(10) })
		if limit == 0 { // the one that is gone was refused in the same call
			s.Mute("Line.Level")
			s.Update(func(n *plantsim.Nodes) { n.Remove("Line.Level") })
			until(t, d, "what is gone is told", func(s plant.Scan) bool {
				r, ok := find(s, "level")
				return ok && r.Quality == plant.Bad && strings.Contains(r.Cause, "BadNodeIdUnknown")
			})
		}
		if n := s.Counts(); n.TooMany != 0 || n.Sessions != before+1 {
			t.Errorf("%+v", n)
		}
		if n := logs.FilterMessageSnippet("stopped reporting").Len(); n != 1 {
			t.Errorf("%d lines in the log, want 1: %v", n, logs.All())
		}
	}
}

// What changes all the time, stays within its deadband, is bad or not a number
// is not made anew.
func TestAnItemThatReportsIsLeftAlone(t *testing.T) {
	s := newPLC(t, plantsim.OPCUAOptions{})
	s.Set("Line.Signed", []int16{1, 2})
	d, logs := openAudited(t, s, strings.Replace(section, `{node: "ns=2;s=Line.Level", scale: 0.1, unit: Cel}`, `{node: "ns=2;s=Line.Level", scale: 0.1, deadband: 0.5}`, 1))
	// A report that is late on a busy computer is none that is missing.
	const late = time.Second
	for _, it := range d.(*driver).current().items {
		it.patience = late
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*late)
	defer cancel()
	for i := uint32(0); ctx.Err() == nil; i++ {
		s.Update(func(n *plantsim.Nodes) {
			n.Set("Line.Made", i)
			n.Set("Line.Level", int16(617+i%5))
			n.SetStatus("Line.Byte", 0x80320000)
		})
		if _, err := d.Read(ctx); err != nil && ctx.Err() == nil {
			t.Fatal(err)
		}
	}
	for _, it := range d.(*driver).current().items {
		if it.revived != 0 {
			t.Errorf("%s was made anew", it.tag)
		}
	}
	if logs.Len() > 0 {
		t.Error(logs.All())
	}
}
