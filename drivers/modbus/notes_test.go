package modbus

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
)

// What the firmware notes tell an installer to write must be a good config.
func TestFirmwareNotesLoad(t *testing.T) {
	pages, err := filepath.Glob("../../firmware-notes/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatal("no pages", err)
	}
	examples := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range strings.Split(string(text), "```yaml\n")[1:] {
			block, _, _ = strings.Cut(block, "```")
			_, device, ok := strings.Cut(block, "devices:\n")
			name, body, _ := strings.Cut(device, "\n")
			if !ok || !strings.Contains(body, "driver: modbus") {
				continue
			}
			examples++
			s, faults := config.ParseSection(strings.Trim(name, " :"), filepath.Base(page), strings.ReplaceAll(body, "\n    ", "\n")[4:])
			if len(faults) == 0 {
				_, faults = Kind.Check(s)
			}
			if len(faults) > 0 {
				t.Errorf("%s:\n%v", page, faults)
			}
		}
	}
	if examples < 8 {
		t.Errorf("%d examples found", examples)
	}
}

// The worked example of firmware-notes/word-order.md.
func TestWorkedExampleOfTheNotes(t *testing.T) {
	raw := []byte{0, 1, 0x86, 0xA0} // the registers 1, 34464
	for order, want := range map[WordOrder]uint64{ABCD: 100000, CDAB: 2258632705, BADC: 16818310, DCBA: 2693136640} {
		p := newPoint("x", Tag{Address: at("holding:0"), Type: Type(plant.TypeUint32)}, order)
		if v, cause := p.decode(raw); v != plant.UintValue(want) {
			t.Errorf("%v: %v %s, want %d", order, v, cause, want)
		}
	}
	for order, want := range map[WordOrder]string{ABCD: "\x00\x01\x86\xA0", CDAB: "\x86\xA0\x00\x01", BADC: "\x01\x00\xA0\x86", DCBA: "\xA0\x86\x01\x00"} {
		if got := order.split(100000, 2); string(got) != want {
			t.Errorf("%v: 100000 is % x, want % x", order, got, want)
		}
	}
}
