package opcua

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/gopcua/opcua/ua"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/plant"
)

// write writes one value in the type that the node has. Timestamps and a status
// are left out: many servers refuse a write that has them.
func (s *session) write(ctx context.Context, it *item, v plant.Value) error {
	node := it.node()
	if node == nil {
		return fmt.Errorf("the server has no namespace %s", it.id.URI)
	}
	if len(it.steps) > 0 {
		return errors.New("a part of an array or structure cannot be written alone: name a node of its own for it")
	}
	wire, err := s.wire(ctx, it)
	if err != nil {
		return err
	}
	variant, err := it.encode(v, wire)
	if err != nil {
		return err
	}
	s.writing.Add(1)
	defer s.writing.Add(-1)
	if s.cut() {
		return lostBy(s.client.channel.why()) // nobody is asked
	}
	answer, err := ask[*ua.WriteResponse](ctx, s, &ua.WriteRequest{NodesToWrite: []*ua.WriteValue{{
		NodeID: node, AttributeID: ua.AttributeIDValue,
		Value: &ua.DataValue{EncodingMask: ua.DataValueValue, Value: variant},
	}}})
	switch {
	case err != nil:
		return s.unwritten(ctx, it, err)
	case len(answer.Results) != 1:
		return fmt.Errorf("%d answers to one write", len(answer.Results))
	case quality(answer.Results[0]) == plant.Bad:
		return errors.New(cause(answer.Results[0]))
	}
	return nil
}

// unwritten names a write without an answer. A connection that ends while one waits
// is most likely ended by it: the server that refuses a write has a status for that.
func (s *session) unwritten(ctx context.Context, it *item, err error) error {
	var status ua.StatusCode
	if errors.As(err, &status) || s.ctx.Err() != nil || errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	lost := &drivers.LostWrite{Tag: it.tag, At: it.id.String(), Cause: err}
	if s.cut() {
		s.end(lost)
	}
	return lost
}

// wire returns the type of the node's value, and asks once if nobody knows it
// yet: by the value, since a data type may be derived, else by the data type.
func (s *session) wire(ctx context.Context, it *item) (ua.TypeID, error) {
	if known := it.wire.Load(); known != 0 {
		return ua.TypeID(known), nil
	}
	got, err := s.readAll(ctx, []*ua.ReadValueID{value(it.node()), attribute(it.node(), ua.AttributeIDDataType)})
	if err != nil {
		return 0, err
	}
	wire := ua.TypeIDNull
	if got[0] != nil && got[0].Value != nil && got[0].Value.Value() != nil {
		wire = got[0].Value.Type()
	} else if got[1] != nil && got[1].Value != nil {
		if n, ok := got[1].Value.Value().(*ua.NodeID); ok && n.Namespace() == 0 && n.IntID() <= uint32(ua.TypeIDString) {
			wire = ua.TypeID(n.IntID())
		}
	}
	if wire == ua.TypeIDNull {
		problem := "nobody knows the type of the node"
		if got[0] != nil && quality(got[0].Status) == plant.Bad {
			problem = cause(got[0].Status)
		}
		return 0, errors.New(problem)
	}
	it.wire.Store(uint32(wire))
	return wire, nil
}

// encode turns a value into a variant of that type, in reverse of decode. It
// refuses what the type cannot hold exactly, rather than round.
func (p *point) encode(v plant.Value, wire ua.TypeID) (*ua.Variant, error) {
	kind := kindOf(wire)
	switch {
	case kind == plant.TypeBool:
		b, ok := v.Bool()
		if !ok {
			return nil, fmt.Errorf("%q is no truth value", v)
		}
		return ua.NewVariant(b)
	case wire == ua.TypeIDString:
		return ua.NewVariant(v.Text())
	case wire == ua.TypeIDLocalizedText:
		return ua.NewVariant(ua.NewLocalizedText(v.Text()))
	case kind == plant.TypeFloat32 || kind == plant.TypeFloat64:
		return p.encodeFloat(v, kind)
	case kind.Bits() > 0:
		return p.encodeWhole(v, kind)
	default:
		return nil, fmt.Errorf("a node of the type %s cannot be written", typeName(wire))
	}
}

func (p *point) encodeFloat(v plant.Value, kind plant.TagType) (*ua.Variant, error) {
	f, ok := v.Float()
	if !ok {
		return nil, fmt.Errorf("%q is no number", v)
	}
	if p.scaled {
		f /= p.scale.Float()
	}
	if kind == plant.TypeFloat64 {
		return ua.NewVariant(f)
	}
	if math.IsInf(float64(float32(f)), 0) {
		return nil, fmt.Errorf("%v does not fit %s", v, kind)
	}
	return ua.NewVariant(float32(f))
}

func (p *point) encodeWhole(v plant.Value, kind plant.TagType) (*ua.Variant, error) {
	if v.Type() == plant.Uint && kind == plant.TypeUint64 && !p.scaled {
		u, err := strconv.ParseUint(v.Text(), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%v is no whole number", v)
		}
		return ua.NewVariant(u)
	}
	i, ok := v.Int()
	if p.scaled {
		i, ok = p.unscale(v)
	}
	if !ok {
		return nil, fmt.Errorf("%v is no whole number of the device", v)
	}
	for _, t := range []struct {
		kind plant.TagType
		fits bool
		make func() any
	}{
		{plant.TypeInt8, int64(int8(i)) == i, func() any { return int8(i) }},
		{plant.TypeInt16, int64(int16(i)) == i, func() any { return int16(i) }},
		{plant.TypeInt32, int64(int32(i)) == i, func() any { return int32(i) }},
		{plant.TypeInt64, true, func() any { return i }},
		{plant.TypeUint8, int64(uint8(i)) == i, func() any { return uint8(i) }},
		{plant.TypeUint16, int64(uint16(i)) == i, func() any { return uint16(i) }},
		{plant.TypeUint32, int64(uint32(i)) == i, func() any { return uint32(i) }},
		{plant.TypeUint64, i >= 0, func() any { return uint64(i) }},
	} {
		if t.kind == kind && t.fits {
			return ua.NewVariant(t.make())
		}
	}
	return nil, fmt.Errorf("%v does not fit %s", v, kind)
}

// unscale finds the raw number that decode would turn into v.
func (p *point) unscale(v plant.Value) (raw int64, ok bool) {
	d, ok := v.Decimal()
	if !ok {
		return 0, false
	}
	return d.Quo(p.scale)
}
