package opcua

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/drivers"
)

// namespacesEvery is how often the server's list of namespaces is compared with
// the one by which the nodes were found. A server must not change it while it has
// sessions (OPC 10000-5, 6.3.1), and a value of another namespace would be one of
// the wrong tag.
const namespacesEvery = 10 * time.Second

// placeOf returns the number at this server, now, of the namespace that n means:
// meant, where n has a number and it is known what that meant.
func placeOf(n NodeID, meant string, namespaces []string) (uint16, error) {
	if n.URI != "" {
		i := slices.Index(namespaces, n.URI)
		if i < 0 {
			return 0, fmt.Errorf("the server has no namespace %s; it has %s", n.URI, strings.Join(namespaces, ", "))
		}
		return uint16(i), nil
	}
	if meant == "" || int(n.Index) < len(namespaces) && namespaces[n.Index] == meant {
		return n.Index, nil
	}
	if i := slices.Index(namespaces, meant); i >= 0 {
		return uint16(i), nil // it has moved
	}
	// Without the node's own name: all tags of a namespace have one cause, and are
	// one problem on the page.
	now := "is gone"
	if int(n.Index) < len(namespaces) {
		now = "is now " + namespaces[n.Index]
	}
	return 0, fmt.Errorf("namespace %d was %s and %s: write nsu=%s; instead of ns=%d; or the namespace that is right now",
		n.Index, meant, now, meant, n.Index)
}

// numbered warns of node ids that name a namespace by its number, a namespace at
// a time: the number is a place in the server's list (OPC 10000-3, 8.2.2), which
// the next program of the PLC may change while the gateway is off.
func (o *Options) numbered() error {
	tags := make(map[uint16][]config.Row[Tag])
	for _, row := range o.Tags.Rows {
		if n := row.Value.Node; n.URI == "" && n.Index > ownNamespace {
			tags[n.Index] = append(tags[n.Index], row)
		}
	}
	var errs []error
	for _, number := range slices.Sorted(maps.Keys(tags)) {
		of := tags[number]
		first := of[0]
		said := "the tag names its namespace by its number"
		if len(of) > 1 {
			said = fmt.Sprintf("%d tags, of which this is the first, name their namespace by its number", len(of))
		}
		errs = append(errs, config.Warn("tags."+first.Name, fmt.Sprintf("%s: ns=%d is a place in the server's list, where another program of the PLC may put another namespace", said, number),
			fmt.Sprintf("write nsu= and the namespace's name instead of ns=%d, as in nsu=NAME;%s; sluice check --online shows the name", number, first.Value.Node.identifier)))
	}
	return errors.Join(errs...)
}

// renamed says of each namespace that the config names by its number what is to be
// written instead at this server, as its list is now.
func (s *session) renamed() (all []drivers.Notice) {
	tags, first := make(map[uint16]int), make(map[uint16]NodeID)
	for _, p := range s.d.points {
		n := p.id
		if n.URI != "" || n.Index <= ownNamespace || int(n.Index) >= len(s.namespaces) || s.namespaces[n.Index] == "" {
			continue
		}
		if tags[n.Index]++; tags[n.Index] == 1 {
			n.URI = s.namespaces[n.Index]
			first[n.Index] = n
		}
	}
	for _, number := range slices.Sorted(maps.Keys(tags)) {
		as := first[number].String()
		name := strings.TrimSuffix(as, first[number].identifier)
		text := fmt.Sprintf("one tag has ns=%d, which is %s now and may be another namespace after a change at the PLC", number, s.namespaces[number])
		if n := tags[number]; n > 1 {
			text = strconv.Itoa(n) + " tags have" + strings.TrimPrefix(text, "one tag has")
		}
		all = append(all, drivers.Notice{Text: text, Do: fmt.Sprintf("if the values are the right ones, write '%s' instead of 'ns=%d;' in the config, as in '%s'", name, number, as)})
	}
	return all
}

// resolve finds the items' nodes by the server's list of namespaces.
func (s *session) resolve(items []*item) {
	s.d.recall()
	if s.d.unkept {
		s.d.keep()
	}
	var moved []string
	for _, it := range items {
		it.resolve(s.namespaces, s.d.pins.of(it.point))
		switch {
		case it.id.URI != "":
		case it.id.Index > ownNamespace && s.d.unread != "":
			it.refuse(s.d.unread)
		case it.refused != "":
			it.refuse(it.refused + s.d.forget(it.id.Index))
		}
		if node := it.node(); node != nil && it.id.URI == "" && node.Namespace() != it.id.Index {
			as := NodeID{URI: s.d.pins.of(it.point), identifier: it.id.identifier}
			name := strings.TrimSuffix(as.String(), as.identifier)
			text := fmt.Sprintf("the namespace %s was number %d and is number %d now: write '%s' instead of 'ns=%d;'", as.URI, it.id.Index, node.Namespace(), name, it.id.Index)
			if !slices.Contains(moved, text) {
				moved = append(moved, text)
			}
		}
	}
	said := strings.Join(moved, "; ")
	if said != "" {
		said += "; the gateway has followed"
	}
	if s.d.advice.say(onNamespace, said) && said != "" {
		s.d.log.Warn("a namespace of the server has another number than before: write nsu= and its name instead of ns=",
			zap.String("device", string(s.d.device)), zap.String("detail", said))
	}
}

// pin notes what namespace the number in an item's node id means, for all tags of
// that number of which it is not known: a node of it could be read. When it
// returns the disk has it; the values come after.
func (s *session) pin(it *item) {
	n := it.id.Index
	if it.id.URI != "" || n == 0 || int(n) >= len(s.namespaces) || s.d.pins.of(it.point) != "" {
		return
	}
	for _, p := range s.d.points {
		if p.id.URI == "" && p.id.Index == n && s.d.pins.of(p) == "" {
			s.d.pins[p.tag] = pin{Node: p.id.String(), Namespace: s.namespaces[n]}
		}
	}
	if n > ownNamespace {
		s.d.keep()
	}
}

// sameNamespaces checks the list of namespaces as it is now. A server that does
// not tell has not changed it.
func (s *session) sameNamespaces(d *ua.DataValue) error {
	if d == nil || d.Value == nil {
		return nil
	}
	now, ok := d.Value.Value().([]string)
	if !ok || slices.Equal(now, s.namespaces) {
		return nil
	}
	return errors.New("the server has changed its list of namespaces; the nodes are looked up anew")
}

func namespaceArray() *ua.ReadValueID { return value(standard(id.Server_NamespaceArray)) }
