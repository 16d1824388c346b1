package opcua

import (
	"os"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/config"
)

// What the firmware notes tell an installer to write must be a good config.
func TestFirmwareNotesLoad(t *testing.T) {
	text, err := os.ReadFile("../../firmware-notes/opcua.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(text), "```yaml\ndevices:\n")
	block, _, _ = strings.Cut(block, "```")
	name, body, _ := strings.Cut(block, "\n")
	s, faults := config.ParseSection(strings.Trim(name, " :"), "opcua.md", strings.TrimPrefix(strings.ReplaceAll(body, "\n    ", "\n"), "    "))
	if len(faults) == 0 {
		_, faults = Kind.Check(s)
	}
	if len(faults) > 0 || len(s.Keys("tags")) != 4 {
		t.Errorf("%v, tags %v", faults, s.Keys("tags"))
	}
}
