package opcua

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/plant"
)

const (
	// browseReferences is how many references one answer is asked to hold for each
	// node; the rest comes by BrowseNext.
	browseReferences = 500
	// browseNodes and browseValues are how many nodes one request asks about, where
	// the server's limits allow it.
	browseNodes, browseValues = 50, 100
)

// browser walks through a server's nodes, level by level. Each node is visited
// once, by the first way that leads to it, so that an address space that runs in
// circles ends.
type browser struct {
	s     *session
	o     drivers.BrowseOptions
	per   int // nodes in one Browse
	seen  map[string]bool
	list  drivers.Listing
	nodes int
}

// found is a node on the way, with those below it.
type found struct {
	drivers.Node
	at    *ua.NodeID
	below []*found
}

// browse is drivers.Plan.Browse: a session of its own without a subscription.
func browse(ctx context.Context, env drivers.Env, o Options, cert, user identity, b drivers.BrowseOptions) (drivers.Listing, error) {
	list, err := listNodes(ctx, env, o, cert, user, b)
	if err != nil {
		return list, fmt.Errorf("opcua: browse %s: %w", o.Endpoint, err)
	}
	return list, nil
}

func listNodes(ctx context.Context, env drivers.Env, o Options, cert, user identity, b drivers.BrowseOptions) (list drivers.Listing, err error) {
	o.Tags, o.Poll = config.Table[Tag]{}, config.Duration(time.Hour)
	env.Records = nil
	d := open(env, o, cert, user)
	s, err := d.start(ctx, 1)
	if err != nil {
		return list, err
	}
	defer s.close()
	w := &browser{s: s, o: b, seen: make(map[string]bool)}
	root := &found{at: standard(id.ObjectsFolder), Node: drivers.Node{Depth: -1}}
	if b.From != "" {
		var from NodeID
		if err := from.UnmarshalText([]byte(b.From)); err != nil {
			return list, err
		}
		it := &item{point: newPoint("from", Tag{Node: from}, o)}
		if it.resolve(s.namespaces, ""); it.node() == nil {
			return list, errors.New(it.refused)
		}
		root.at = it.node()
	}
	if err := w.limit(ctx); err != nil {
		return list, err
	}
	if err := w.walk(ctx, root); err != nil {
		return list, err
	}
	w.flatten(root)
	return w.list, nil
}

// limit asks how many nodes one Browse may hold (OPC 10000-5, 6.3.11).
func (w *browser) limit(ctx context.Context) error {
	got, err := w.s.readAll(ctx, []*ua.ReadValueID{value(standard(id.Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse))})
	if err != nil {
		return err
	}
	w.per = min(limit(got[0]), browseNodes)
	return nil
}

// walk visits level by level. A node that the server does not open is a problem
// of the listing, not its end.
func (w *browser) walk(ctx context.Context, root *found) error {
	// What leads up again from where the listing begins is not followed.
	for _, at := range []*ua.NodeID{root.at, standard(id.RootFolder), standard(id.ObjectsFolder)} {
		w.seen[at.String()] = true
	}
	if !w.o.All {
		w.seen[standard(id.Server).String()] = true
		w.seen[standard(id.Aliases).String()] = true
	}
	for level, depth := []*found{root}, 0; len(level) > 0; depth++ {
		if depth >= w.o.Depth {
			w.list.More = true
			return nil
		}
		var next []*found
		for len(level) > 0 {
			part := level[:min(w.per, len(level))]
			err := w.open(ctx, part)
			slow := errors.As(err, &noAnswer{})
			switch {
			case (slow || overmuch(err)) && len(part) > 1:
				w.per = len(part) / 2 // it names no limit, or keeps to a smaller one
				continue
			case slow && w.nodes > 0:
				w.list.Problems = append(w.list.Problems, fmt.Sprintf("%s: %v when it is asked what is below; the list ends there", cmp.Or(part[0].Path, part[0].at.String()), err))
				return nil
			case err != nil:
				return err
			}
			level = level[len(part):]
			for _, n := range part {
				next = append(next, n.below...)
			}
			if w.o.Step != nil {
				w.o.Step(w.nodes)
			}
			if w.nodes >= w.o.Most {
				w.list.More = true
				return w.describe(ctx, next)
			}
		}
		if err := w.describe(ctx, next); err != nil {
			return err
		}
		level = next
	}
	return nil
}

// open asks what is below some nodes.
func (w *browser) open(ctx context.Context, nodes []*found) error {
	reference := id.HierarchicalReferences
	ask1 := &ua.BrowseRequest{
		View:                          &ua.ViewDescription{ViewID: ua.NewTwoByteNodeID(0), Timestamp: time.Time{}},
		RequestedMaxReferencesPerNode: browseReferences,
	}
	for _, n := range nodes {
		ask1.NodesToBrowse = append(ask1.NodesToBrowse, &ua.BrowseDescription{
			NodeID: n.at, BrowseDirection: ua.BrowseDirectionForward, ReferenceTypeID: standard(uint32(reference)), IncludeSubtypes: true,
			NodeClassMask: uint32(ua.NodeClassObject | ua.NodeClassVariable), ResultMask: uint32(ua.BrowseResultMaskAll),
		})
	}
	answer, err := ask[*ua.BrowseResponse](ctx, w.s, ask1)
	if err != nil {
		return err
	}
	if len(answer.Results) != len(nodes) {
		return fmt.Errorf("%d answers to %d nodes", len(answer.Results), len(nodes))
	}
	var alone []*found
	for i, r := range answer.Results {
		switch {
		case r.StatusCode == ua.StatusBadNoContinuationPoints && len(nodes) > 1:
			alone = append(alone, nodes[i]) // the server has room for fewer at a time
		default:
			if err := w.follow(ctx, nodes[i], r); err != nil {
				return err
			}
		}
	}
	for _, n := range alone {
		if err := w.open(ctx, []*found{n}); err != nil {
			return err
		}
	}
	return nil
}

// follow takes the references of one node, also those that come in further
// answers.
func (w *browser) follow(ctx context.Context, n *found, r *ua.BrowseResult) error {
	for {
		if quality(r.StatusCode) == plant.Bad {
			w.list.Problems = append(w.list.Problems, cmp.Or(n.Path, n.at.String())+": "+cause(r.StatusCode))
			return nil
		}
		for _, ref := range r.References {
			w.add(n, ref)
		}
		if len(r.ContinuationPoint) == 0 {
			return nil
		}
		release := w.nodes >= w.o.Most
		answer, err := ask[*ua.BrowseNextResponse](ctx, w.s, &ua.BrowseNextRequest{ReleaseContinuationPoints: release, ContinuationPoints: [][]byte{r.ContinuationPoint}})
		switch {
		case err != nil:
			return err
		case release:
			return nil
		case len(answer.Results) != 1:
			return fmt.Errorf("%d answers to 1 node", len(answer.Results))
		case len(answer.Results[0].References) == 0 && len(answer.Results[0].ContinuationPoint) > 0:
			w.list.Problems = append(w.list.Problems, cmp.Or(n.Path, n.at.String())+": the server says that there is more, and sends nothing")
			return nil
		}
		r = answer.Results[0]
	}
}

// add takes one node, unless it was there before or is on another server.
func (w *browser) add(parent *found, ref *ua.ReferenceDescription) {
	if w.nodes >= w.o.Most || ref == nil || ref.NodeID == nil || ref.NodeID.NodeID == nil || ref.NodeID.ServerIndex > 0 || ref.ReferenceTypeID == nil {
		return
	}
	if !w.o.All && ref.ReferenceTypeID.Namespace() == 0 && ref.ReferenceTypeID.IntID() == id.HasProperty {
		return
	}
	at := ref.NodeID.NodeID
	if ref.NodeID.NamespaceURI != "" {
		i := slices.Index(w.s.namespaces, ref.NodeID.NamespaceURI)
		if i < 0 {
			return
		}
		moved, err := NodeID{identifier: identifierOf(at)}.in(uint16(i))
		if err != nil {
			return
		}
		at = moved
	}
	key := at.String()
	if w.seen[key] {
		return
	}
	w.seen[key] = true
	w.nodes++
	n := &found{at: at}
	n.Depth = parent.Depth + 1
	if n.Name = nameOf(ref); n.Name == "" {
		n.Name = key
	}
	n.Path = n.Name
	if parent.Path != "" {
		n.Path = parent.Path + "/" + n.Name
	}
	n.Address, n.Variable = key, ref.NodeClass == ua.NodeClassVariable
	n.Stable = w.stable(at)
	parent.below = append(parent.below, n)
}

func nameOf(ref *ua.ReferenceDescription) string {
	if ref.BrowseName != nil && ref.BrowseName.Name != "" {
		return ref.BrowseName.Name
	}
	if ref.DisplayName != nil {
		return ref.DisplayName.Text
	}
	return ""
}

// identifierOf is what of a node id is not its namespace.
func identifierOf(at *ua.NodeID) string {
	text := at.String()
	if _, rest, ok := strings.Cut(text, ";"); ok && strings.HasPrefix(text, "ns=") {
		return rest
	}
	return text
}

// stable names the namespace by its URI, which stays when numbers change.
func (w *browser) stable(at *ua.NodeID) string {
	n := NodeID{Index: at.Namespace(), identifier: identifierOf(at)}
	if i := int(n.Index); i > 0 && i < len(w.s.namespaces) && w.s.namespaces[i] != "" {
		n.URI = w.s.namespaces[i]
	}
	return n.String()
}

// describe reads what is to be said of variables.
func (w *browser) describe(ctx context.Context, nodes []*found) error {
	var variables []*found
	for _, n := range nodes {
		if n.Variable {
			variables = append(variables, n)
		}
	}
	attributes := []ua.AttributeID{ua.AttributeIDDataType, ua.AttributeIDValueRank, ua.AttributeIDUserAccessLevel}
	if w.o.Values {
		attributes = append(attributes, ua.AttributeIDValue)
	}
	per := max(1, browseValues/len(attributes))
	for part := range slices.Chunk(variables, per) {
		var nodes []*ua.ReadValueID
		for _, n := range part {
			for _, a := range attributes {
				nodes = append(nodes, attribute(n.at, a))
			}
		}
		got, err := w.s.readAll(ctx, nodes)
		if err != nil {
			return err
		}
		for i, n := range part {
			n.tell(got[i*len(attributes):(i+1)*len(attributes)], w.s.d.o)
		}
	}
	return nil
}

// tell takes the attributes of one variable: data type, rank, access and, if it
// was asked for, the value.
func (n *found) tell(got []*ua.DataValue, o Options) {
	if t, ok := content(got[0]).(*ua.NodeID); ok {
		n.Type, n.Tag = dataType(t)
	}
	if rank, ok := content(got[1]).(int32); ok && rank >= 0 {
		n.Type, n.Tag, n.Unusable = "array of "+n.Type, plant.TypeUnknown, "it is an array"
	}
	if level, ok := content(got[2]).(uint8); ok {
		n.Writable = ua.AccessLevelType(level)&ua.AccessLevelTypeCurrentWrite != 0
		if ua.AccessLevelType(level)&ua.AccessLevelTypeCurrentRead == 0 {
			n.Unusable = "this user may not read it"
		}
	}
	if len(got) < 4 {
		if n.Tag == plant.TypeUnknown {
			n.Unusable = cmp.Or(n.Unusable, "its type is known only with its value")
		}
		return
	}
	it := &item{point: newPoint(n.Name, Tag{}, o)}
	r := it.reading(got[3])
	n.Value, n.Quality, n.Cause, n.Source = r.Value, r.Quality, r.Cause, r.Source
	if v := got[3]; v != nil && v.Value != nil && n.Quality != plant.Bad {
		n.Tag = kindOf(v.Value.Type())
		if n.Type == "" || strings.HasPrefix(n.Type, "i=") || strings.HasPrefix(n.Type, "ns=") {
			n.Type = typeName(v.Value.Type()) // an enumeration, or a type of the vendor's
		}
	}
	if n.Tag == plant.TypeUnknown {
		n.Unusable = cmp.Or(n.Unusable, n.Cause, "no tag can be of this type")
	}
}

func content(d *ua.DataValue) any {
	if d == nil || d.Value == nil || quality(d.Status) == plant.Bad {
		return nil
	}
	return d.Value.Value()
}

// dataType names a built-in type (OPC 10000-6, 5.1.2) and the tag's; another one
// is named by its node.
func dataType(t *ua.NodeID) (name string, tag plant.TagType) {
	if n := t.IntID(); t.Namespace() == 0 && n >= uint32(ua.TypeIDBoolean) && n <= uint32(ua.TypeIDVariant) {
		return typeName(ua.TypeID(n)), kindOf(ua.TypeID(n))
	}
	return t.String(), plant.TypeUnknown
}

// flatten lists what is below a node, in the server's order.
func (w *browser) flatten(n *found) {
	for _, below := range n.below {
		w.list.Nodes = append(w.list.Nodes, below.Node)
		w.flatten(below)
	}
}
