package opcua

import (
	"context"
	"fmt"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/plant"
)

var _ drivers.Inspector = (*driver)(nil)

// Inspect implements drivers.Inspector: what this user may write is the
// attribute UserAccessLevel (OPC 10000-3, 5.6.2), the clock the server's
// CurrentTime (OPC 10000-5, 12.10). In doubt are namespaces that the config names
// by their numbers.
func (d *driver) Inspect(ctx context.Context, written []plant.TagID) (found drivers.Inspection, err error) {
	s := d.current()
	if s == nil {
		return found, fmt.Errorf("opcua: inspect %s: %w", d.o.Endpoint, drivers.ErrNotConnected)
	}
	ctx, cancel := context.WithTimeout(ctx, d.o.Timeout.Std())
	defer cancel()
	found.Doubts = s.renamed()
	found.Refused = make(map[plant.TagID]string)
	nodes := []*ua.ReadValueID{value(standard(id.Server_ServerStatus_CurrentTime))}
	var asked []plant.TagID
	for _, tag := range written {
		i, ok := d.byTag[tag]
		if !ok {
			continue
		}
		it := s.items[i]
		if it.node() == nil {
			found.Refused[tag] = it.refused
			continue
		}
		asked = append(asked, tag)
		nodes = append(nodes, attribute(it.node(), ua.AttributeIDUserAccessLevel))
	}
	found.Asked = time.Now()
	got, err := s.readAll(ctx, nodes)
	if err != nil {
		return found, fmt.Errorf("opcua: inspect %s: %w", d.o.Endpoint, soon(err))
	}
	found.Received = time.Now()
	if got[0] != nil && got[0].Value != nil {
		found.Clock, _ = got[0].Value.Value().(time.Time)
	}
	for i, tag := range asked {
		if why := unwritable(got[1+i]); why != "" {
			found.Refused[tag] = why
		}
	}
	return found, nil
}

// unwritable says why a node cannot be written, empty if it can.
func unwritable(access *ua.DataValue) string {
	if access == nil || access.Value == nil {
		return "the server does not say whether it may be written"
	}
	level, ok := access.Value.Value().(uint8)
	switch {
	case !ok:
		return "the server does not say whether it may be written"
	case ua.AccessLevelType(level)&ua.AccessLevelTypeCurrentWrite == 0:
		return "the server lets this user only read it: allow writing it in the PLC's or the server's list of variables"
	default:
		return ""
	}
}
