package opcua

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/config"
)

// What the firmware notes and the guide tell an installer to write must be a good
// config.
func TestExamplesLoad(t *testing.T) {
	for page, tags := range map[string]int{"../../firmware-notes/opcua.md": 4, "../../docs/opcua.md": 6} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		_, block, _ := strings.Cut(string(text), "```yaml\ndevices:\n")
		block, _, _ = strings.Cut(block, "```")
		name, body, _ := strings.Cut(block, "\n")
		s, faults := config.ParseSection(strings.Trim(name, " :"), page, strings.TrimPrefix(strings.ReplaceAll(body, "\n    ", "\n"), "    "))
		if len(faults) == 0 {
			_, faults = Kind.Check(s)
		}
		if len(faults) > 0 || len(s.Keys("tags")) != tags {
			t.Errorf("%s: %v, tags %v", page, faults, s.Keys("tags"))
		}
	}
}

// The guide quotes what the driver says.
func TestGuideQuotesTheDriver(t *testing.T) {
	guide, err := os.ReadFile("../../docs/opcua.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var source strings.Builder
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		source.Write(b)
	}
	rows := regexp.MustCompile(`(?m)^\| \*([^*]+)\* \|`).FindAllStringSubmatch(string(guide), -1)
	if len(rows) < 15 {
		t.Errorf("only %d messages are quoted", len(rows))
	}
	for _, row := range rows {
		if !strings.Contains(source.String(), row[1]) {
			t.Errorf("the guide explains %q, which the driver does not say", row[1])
		}
	}
}
