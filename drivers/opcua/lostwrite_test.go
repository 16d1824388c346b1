package opcua

import (
	"errors"
	"strings"
	"testing"

	"github.com/gopcua/opcua/id"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/plant"
)

// A server that answers each question and not the write: the write is blamed, by its
// tag and node; also where it costs the connection, and then by what is read next.
func TestAWriteWithoutAnAnswerIsNamed(t *testing.T) {
	const want = "no answer to the write of made (ns=2;s=Line.Made): the server "
	for _, c := range []struct {
		name, mode string
		do         fault
	}{{"nothing comes", "publishing", swallow}, {"the connection goes", "publishing", cutOff}, {"the connection goes, polling", "poll", cutOff}} {
		t.Run(c.name, func(t *testing.T) {
			s := newPLC(t, plantsim.OPCUAOptions{})
			m := newMeddler(t, s.Addr())
			d := openText(t, "driver: opcua\nendpoint: opc.tcp://ENDPOINT\n"+c.mode+": 50ms\ntimeout: 2s\ntags: {made: {node: ns=2;s=Line.Made, writable: true}}\n", m.addr)
			defer d.Close()
			connect(t, d, 1)
			until(t, d, "first", func(s plant.Scan) bool { _, ok := find(s, "made"); return ok })
			m.set(id.WriteResponse_Encoding_DefaultBinary, c.do)
			write := func() error {
				return d.Write(t.Context(), plant.Write{Session: 1, Tag: "made", Value: plant.UintValue(7)})
			}
			var lost *drivers.LostWrite
			if err := write(); !errors.As(err, &lost) || !strings.Contains(err.Error(), want) {
				t.Errorf("write: %v", err)
			}
			if c.do == swallow {
				return // the session goes on
			}
			if _, err := readErr(t, d); !errors.As(err, &lost) || !strings.Contains(err.Error(), want) {
				t.Errorf("the read behind it: %v", err)
			}
			if err := write(); err == nil || strings.Contains(err.Error(), want) {
				t.Errorf("a write that was not sent: %v", err)
			}
		})
	}
}
