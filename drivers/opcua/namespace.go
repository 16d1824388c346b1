package opcua

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
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

// resolve finds the items' nodes by the server's list of namespaces.
func (s *session) resolve(items []*item) {
	s.d.recall()
	if s.d.unkept {
		s.d.keep()
	}
	moved := ""
	for _, it := range items {
		it.resolve(s.namespaces, s.d.pins.of(it.point))
		switch {
		case it.id.URI != "":
		case it.id.Index > ownNamespace && s.d.unread != "":
			it.refuse(s.d.unread)
		case it.refused != "":
			it.refuse(it.refused + s.d.forget(it.id.Index))
		}
		if node := it.node(); node != nil && it.id.URI == "" && node.Namespace() != it.id.Index && moved == "" {
			moved = fmt.Sprintf("the namespace %s was number %d and is number %d now; the gateway has followed it: write nsu= and its name in the config, as in nsu=%s;%s",
				s.d.pins.of(it.point), it.id.Index, node.Namespace(), s.d.pins.of(it.point), it.id.identifier)
		}
	}
	if s.d.advice.say(onNamespace, moved) && moved != "" {
		s.d.log.Warn("a namespace of the server has another number than before: write nsu= and its name instead of ns=",
			zap.String("device", string(s.d.device)), zap.String("detail", moved))
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
