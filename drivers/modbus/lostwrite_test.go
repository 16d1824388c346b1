package modbus

import (
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/plant"
)

const oneWritten = "timeout: 200ms\ntags:\n  a: holding:0\n  ack: {address: holding:900, writable: true}\n"

// A device that answers each read and no write: the write is blamed, by its tag,
// and not the read that finds the session gone.
func TestAWriteWithoutAnAnswerIsNamed(t *testing.T) {
	peer := func(r []byte) [][]byte {
		if r[7] != 3 {
			return nil
		}
		return [][]byte{frame(r, append([]byte{r[6], 3, 2 * r[11]}, make([]byte, 2*r[11])...)...)}
	}
	unit := func(r []byte) [][]byte {
		if r[1] != 3 {
			return nil
		}
		return [][]byte{ownRegisters(r)}
	}
	for name, open := range map[string]func(*testing.T) drivers.Driver{
		"connection": func(t *testing.T) drivers.Driver {
			return openWired(t, "driver: modbus\nendpoint: ENDPOINT\n"+oneWritten, peer)
		},
		"line": func(t *testing.T) drivers.Driver {
			return onLine(t, onWire(t, newBareBus(unit), ""), "unit: 1\n"+oneWritten)
		},
	} {
		inBubble(t, name, func(t *testing.T) {
			d := open(t)
			defer d.Close()
			if err := d.Connect(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			if _, err := d.Read(t.Context()); err != nil {
				t.Fatal(err)
			}
			const want = "no answer to the write of ack (holding:900): no answer "
			for range 2 { // on a line the first one is forgiven
				err := d.Write(t.Context(), plant.Write{Session: 1, Tag: "ack", Value: plant.IntValue(1)})
				if name == "connection" && strings.Contains(err.Error(), drivers.ErrNotConnected.Error()) {
					break
				}
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("write: %v", err)
				}
			}
			if _, err := d.Read(t.Context()); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "read ") {
				t.Errorf("the read behind it: %v", err)
			}
		})
	}
}
