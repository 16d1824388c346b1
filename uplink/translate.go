package uplink

import (
	"encoding/json"

	"github.com/sluice-edge/sluice/plant"
)

// spot is a place in the data of a kind of event, or what leads there: a member of
// an object by that name. A list is passed through, so that a place in it is one in
// each of its elements.
type spot struct {
	name string
	// kind is what the text there names, empty where it is no code.
	kind  plant.CodeKind
	inner []spot
}

// in returns the place of a member; nil if nothing below it is a code.
func (s *spot) in(name []byte) *spot {
	for i := range s.inner {
		if s.inner[i].name == string(name) {
			return &s.inner[i]
		}
	}
	return nil
}

// with adds the place at path below s.
func (s *spot) with(kind plant.CodeKind, path ...string) {
	if len(path) == 0 {
		s.kind = kind
		return
	}
	below := s.in([]byte(path[0]))
	if below == nil {
		s.inner = append(s.inner, spot{name: path[0]})
		below = &s.inner[len(s.inner)-1]
	}
	below.with(kind, path[1:]...)
}

// spots returns where the data of a kind of event holds codes of those kinds; it
// has no inner ones if there are none. Machines are not among them: an event names
// its machine in id, source and subject too, which are the same for everybody.
func spots(event plant.EventKind, has func(plant.CodeKind) bool) *spot {
	root := &spot{}
	add := func(kind plant.CodeKind, path ...string) {
		if has(kind) {
			root.with(kind, path...)
		}
	}
	orders := []string{"order"}
	switch event {
	case plant.KindCounter:
		add(plant.CodeWaste, "scrap", "code")
	case plant.KindCorrection:
		add(plant.CodeWaste, "code")
		add(plant.CodeComponent, "material", "component")
	case plant.KindStartStop, plant.KindReason:
		add(plant.CodeDowntimeType, "type")
	case plant.KindParameters:
		add(plant.CodeParameter, "parameters", "code")
	case plant.KindOrder:
		orders = append(orders, "previous", "next")
		add(plant.CodeWaste, "totals", "scrap", "code")
		add(plant.CodeComponent, "doses", "component")
	case plant.KindDosing, plant.KindMaterial, plant.KindRefill, plant.KindRemoval, plant.KindReceipt:
		add(plant.CodeComponent, "component")
	case plant.KindSerial:
		add(plant.CodeArticle, "sku")
	case plant.KindItemAttach:
		add(plant.CodeArticle, "sku")
		add(plant.CodeComponent, "item", "sku")
	case plant.KindOperation:
		add(plant.CodeArticle, "sku")
		add(plant.CodeOperation, "routing_operation")
		add(plant.CodeWorkCenter, "work_center")
	}
	for _, order := range orders {
		add(plant.CodeArticle, order, "sku")
		add(plant.CodeOperation, order, "operation")
		add(plant.CodeWorkCenter, order, "work_center")
	}
	return root
}

// AppendCloudEvent appends e as the function AppendCloudEvent does, with the codes
// in its data as the system calls them. Attributes, and so the id, stay as they are,
// and e is not changed. Where no table has a say it costs what the function costs.
func (c *Codes) AppendCloudEvent(dst []byte, e *plant.Event) []byte {
	if c == nil || c.spots[e.Kind] == nil || len(e.Data) == 0 {
		return AppendCloudEvent(dst, e)
	}
	dst = append(appendAttributes(dst, e), `,"data":`...)
	t := translation{codes: c.For(e.Machine, e.Sequence), data: e.Data, dst: dst}
	if !t.value(c.spots[e.Kind]) { // what was recorded is JSON, so this does not happen
		return append(append(dst, e.Data...), '}')
	}
	return append(append(t.dst, e.Data[t.copied:]...), '}')
}

// translation is the data of one event on its way into the words of a system. Each
// method that reads something returns false where the data is no JSON.
type translation struct {
	codes EventCodes
	data  []byte
	// at is where data is read, copied how much of it is in dst.
	at, copied int
	dst        []byte
}

// value reads a value, of which s says what codes it holds; nil for none.
func (t *translation) value(s *spot) bool {
	switch t.next() {
	case '{':
		return t.object(s)
	case '[':
		return t.list(s)
	case '"':
		begin := t.at
		if !t.skipText() {
			return false
		}
		if s != nil && s.kind != "" {
			t.replace(s.kind, begin)
		}
		return true
	default:
		begin := t.at
		for t.at < len(t.data) && !delimiter(t.data[t.at]) {
			t.at++
		}
		return t.at > begin
	}
}

// object reads an object.
func (t *translation) object(s *spot) bool {
	t.at++
	for t.next() != '}' {
		begin := t.at
		if t.next() != '"' || !t.skipText() {
			return false
		}
		var inner *spot
		if s != nil {
			inner = s.in(t.data[begin+1 : t.at-1])
		}
		if t.next() != ':' {
			return false
		}
		t.at++
		if !t.value(inner) {
			return false
		}
		if t.next() == ',' {
			t.at++
		} else if t.next() != '}' {
			return false
		}
	}
	t.at++
	return true
}

// list reads a list.
func (t *translation) list(s *spot) bool {
	t.at++
	for t.next() != ']' {
		if !t.value(s) {
			return false
		}
		if t.next() == ',' {
			t.at++
		} else if t.next() != ']' {
			return false
		}
	}
	t.at++
	return true
}

// next passes over blanks and returns the byte that is there, 0 at the end.
func (t *translation) next() byte {
	for ; t.at < len(t.data); t.at++ {
		switch c := t.data[t.at]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

func delimiter(c byte) bool {
	switch c {
	case ',', '}', ']', ' ', '\t', '\n', '\r':
		return true
	}
	return false
}

// skipText passes over the text that begins where data is read.
func (t *translation) skipText() bool {
	for t.at++; t.at < len(t.data); t.at++ {
		switch t.data[t.at] {
		case '"':
			t.at++
			return true
		case '\\':
			t.at++
		}
	}
	return false
}

// replace puts what the system calls the code in the place of the text that began
// there and has just been read.
func (t *translation) replace(kind plant.CodeKind, begin int) {
	ours, ok := text(t.data[begin:t.at])
	if !ok || ours == "" {
		return
	}
	var theirs string
	if kind == plant.CodeDowntimeType {
		theirs = t.downtimeType(ours)
	} else {
		theirs, _ = t.codes.Lookup(kind, ours) // an unmapped one goes as it is, and is listed
	}
	if theirs != ours {
		t.dst = append(t.dst, t.data[t.copied:begin]...)
		t.dst = plant.AppendJSONString(t.dst, theirs)
		t.copied = t.at
	}
}

// downtimeType translates the type of a stop. What the receiver has no names for
// stays as it was recorded.
func (t *translation) downtimeType(ours string) string {
	reason := member(t.data, "reason")
	if _, mapped := t.codes.codes.tables[plant.CodeDowntimeType]; !mapped {
		if name, own := t.codes.codes.downtime.DowntimeType(t.codes.machine, reason); own {
			return name
		}
		return ours
	}
	theirs, _ := t.codes.DowntimeType(t.codes.machine, ours, reason) // as above
	return theirs
}

// text reads a JSON text.
func text(quoted []byte) (s string, ok bool) {
	for _, c := range quoted {
		if c == '\\' {
			return s, json.Unmarshal(quoted, &s) == nil
		}
	}
	return string(quoted[1 : len(quoted)-1]), true
}

// member returns a text of an object, empty if it has none of that name.
func member(object []byte, name string) string {
	t := translation{data: object}
	if t.next() != '{' {
		return ""
	}
	for t.at++; t.next() == '"'; t.at++ {
		begin := t.at
		if !t.skipText() {
			return ""
		}
		found := string(object[begin+1:t.at-1]) == name
		if t.next() != ':' {
			return ""
		}
		t.at++
		quoted := t.next() == '"'
		if begin = t.at; !t.value(nil) {
			return ""
		}
		if found && quoted {
			s, _ := text(object[begin:t.at])
			return s
		}
		if t.next() != ',' {
			return ""
		}
	}
	return ""
}
