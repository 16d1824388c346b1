package plantsim

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/plant"
)

// TestACheckIsAskedOnce: the receiver asks about the data of each event that it
// sees for the first time, and an error is a violation.
func TestACheckIsAskedOnce(t *testing.T) {
	m := NewMES()
	var asked []string
	m.Check(func(kind plant.EventKind, version uint8, data []byte) error {
		asked = append(asked, fmt.Sprintf("%s %d %s", kind, version, data))
		if strings.Contains(string(data), "7") {
			return errors.New("the good pieces are no number")
		}
		return nil
	})
	event := func(n, data, version string) []byte {
		return fmt.Appendf(nil, `{"id":"g/M/00-%s","source":"/a/M","type":"dev.sluice.alarm.%s","subject":"M","sequence":"%s","data":%s}`, n, version, n, data)
	}
	m.Publish("t", event("1", `{"good":1}`, "v1"))
	m.Publish("t", event("1", `{"good":1}`, "v1"))
	if len(asked) != 1 || asked[0] != `alarm 1 {"good":1}` || len(m.Violations()) != 0 {
		t.Fatalf("asked %q, %q", asked, m.Violations())
	}
	before := len(m.Violations())
	m.Publish("t", event("2", `{"good":7}`, "v2"))
	if v := strings.Join(m.Violations()[before:], "\n"); len(asked) != 2 || !strings.Contains(v, "g/M/00-2: the good pieces are no number") {
		t.Errorf("asked %q, %s", asked, v)
	}
	before = len(m.Violations())
	m.Publish("t", event("3", `{}`, "vX"))
	if v := strings.Join(m.Violations()[before:], "\n"); len(asked) != 2 || !strings.Contains(v, "g/M/00-3") {
		t.Errorf("a type without a version: %s", v)
	}
}
