package mqtt

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// The placeholders of a topic.
const (
	inEnterprise = "enterprise"
	inSite       = "site"
	inArea       = "area"
	inMachine    = "machine"
	inKind       = "kind"
	inGateway    = "gateway"
	// The ISA-95 levels between the area and the machine, by the config's lists.
	inLine = "line"
	inCell = "cell"
)

var (
	eventPlaceholders  = []string{inEnterprise, inSite, inArea, inLine, inCell, inMachine, inKind, inGateway}
	statusPlaceholders = []string{inEnterprise, inSite, inArea, inGateway}
	cursorPlaceholders = []string{inEnterprise, inSite, inArea, inLine, inCell, inMachine, inGateway}
)

// maxTemplate leaves room for long names below the 65535 bytes of an MQTT
// string (MQTT 3.1.1 section 1.5.3).
const maxTemplate = 1024

// checkTemplate returns the faults of a topic template as config.FieldErrors.
func checkTemplate(path, template string, allowed []string) error {
	const remedy = "write levels separated by /, for example sluice/{site}/{machine}/{kind}"
	var errs []error
	bad := func(problem string) { errs = append(errs, config.Field(path, problem, remedy)) }
	switch {
	case template == "":
		bad("it is empty")
		return errors.Join(errs...)
	case len(template) > maxTemplate:
		bad(fmt.Sprintf("it is longer than %d bytes", maxTemplate))
	case !utf8.ValidString(template):
		bad("it is not valid UTF-8")
	}
	if strings.ContainsFunc(template, func(r rune) bool { return r < ' ' || (r >= 0x7f && r < 0xa0) }) {
		bad("it holds a control character")
	}
	if strings.ContainsAny(template, "+#") {
		bad("it holds a wildcard (+ or #), which only a subscriber may use")
	}
	if strings.HasPrefix(template, "$") {
		bad("it begins with $, which is the broker's own")
	}
	if slices.Contains(strings.Split(template, "/"), "") {
		bad("it has an empty level")
	}
	used, err := placeholders(template)
	if err != nil {
		bad(err.Error())
	}
	for _, name := range used {
		if !slices.Contains(allowed, name) {
			remedy := "use {" + strings.Join(allowed, "}, {") + "}"
			if meant, ok := config.Nearest(name, allowed); ok {
				remedy = "did you mean {" + meant + "}?"
			}
			errs = append(errs, config.Field(path, fmt.Sprintf("there is no placeholder {%s}", name), remedy))
		}
	}
	return errors.Join(errs...)
}

// placeholders returns the names between braces.
func placeholders(template string) ([]string, error) {
	var names []string
	for rest := template; ; {
		at := strings.IndexAny(rest, "{}")
		if at < 0 {
			return names, nil
		}
		end := strings.IndexAny(rest[at+1:], "{}")
		if rest[at] == '}' || end < 0 || rest[at+1+end] == '{' {
			return names, errors.New("its braces do not match")
		}
		names = append(names, rest[at+1:at+1+end])
		rest = rest[at+2+end:]
	}
}

// expand puts the values into a checked template.
func expand(template string, value func(name string) string) string {
	var b strings.Builder
	for {
		text, rest, ok := strings.Cut(template, "{")
		b.WriteString(text)
		if !ok {
			return b.String()
		}
		name, rest, _ := strings.Cut(rest, "}")
		b.WriteString(escapeLevel(value(name)))
		template = rest
	}
}

// escapeLevel makes a name one level of a topic. What would add a level or is a
// wildcard ("/", "+", "#"), control characters, bytes that are no UTF-8 and "%"
// itself are percent-encoded, so that "LINE/1" is "LINE%2F1" and two machines
// never share a topic; nothing is "_".
func escapeLevel(name string) string {
	if name == "" {
		return "_"
	}
	var b strings.Builder
	for i := 0; i < len(name); {
		r, size := utf8.DecodeRuneInString(name[i:])
		if r < ' ' || (r >= 0x7f && r < 0xa0) || strings.ContainsRune("/+#%", r) || (r == utf8.RuneError && size == 1) {
			for _, c := range []byte(name[i : i+size]) {
				fmt.Fprintf(&b, "%%%02X", c)
			}
		} else {
			b.WriteString(name[i : i+size])
		}
		i += size
	}
	return b.String()
}

// place is where the gateway stands, and in which line and cell the machines are.
type place struct {
	enterprise, site, area, gateway string
	lines, cells                    map[string]uplink.Machines
}

// level returns the name under which a machine is listed, empty for none; of
// several the first by the alphabet.
func level(names map[string]uplink.Machines, m plant.MachineID) string {
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if len(names[name]) > 0 && names[name].Take(m) {
			return name
		}
	}
	return ""
}

// newPlace reads the path "/enterprise/site/area".
func newPlace(path, gateway string) place {
	p := place{gateway: gateway}
	p.enterprise, path, _ = strings.Cut(strings.TrimPrefix(path, "/"), "/")
	p.site, p.area, _ = strings.Cut(path, "/")
	return p
}

// value returns the value of a placeholder that does not depend on the event.
func (p place) value(name string) string {
	switch name {
	case inEnterprise:
		return p.enterprise
	case inSite:
		return p.site
	case inArea:
		return p.area
	default:
		return p.gateway
	}
}

// topics are the topics of machines and kinds, expanded once each.
type topics struct {
	template string
	place    place

	mu    sync.RWMutex
	known map[topicKey]string
}

type topicKey struct {
	machine plant.MachineID
	kind    plant.EventKind
}

func newTopics(template string, p place) *topics {
	return &topics{template: template, place: p, known: map[topicKey]string{}}
}

// of returns the topic of a machine's events of one kind. It may be called from
// any goroutine. Its memory is bounded by the machines of the config.
func (t *topics) of(m plant.MachineID, k plant.EventKind) string {
	key := topicKey{m, k}
	t.mu.RLock()
	topic, ok := t.known[key]
	t.mu.RUnlock()
	if ok {
		return topic
	}
	topic = expand(t.template, func(name string) string {
		switch name {
		case inMachine:
			return string(m)
		case inLine:
			return level(t.place.lines, m)
		case inCell:
			return level(t.place.cells, m)
		case inKind:
			return string(k)
		default:
			return t.place.value(name)
		}
	})
	t.mu.Lock()
	t.known[key] = topic
	t.mu.Unlock()
	return topic
}
