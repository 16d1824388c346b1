package docs_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/docs"
)

func TestKeysAreRead(t *testing.T) {
	keys := docs.ConfigKeys()
	if k := keys["`driver: rest`"]["results"]; !slices.Equal(k.Words(), []string{"read", "required", "ignore"}) || k.Default != "`read`" ||
		k.Text() != "whether the answer may speak for each event: read if a batch is answered in JSON, required always, ignore never — read, required, ignore" {
		t.Errorf("results: %q, %q, %+v", k.Words(), k.Text(), k)
	}
	if k := keys["`driver: modbus`"]["word_order"]; strings.Contains(k.Text(), "see below") {
		t.Errorf("word_order: %q", k.Text())
	}
	if k := keys["`driver: rest`"]["proxy"]; k.Words() != nil {
		t.Errorf("proxy: %q is no closed set", k.Words())
	}
	n := 0
	for heading, rows := range keys {
		for name, k := range rows {
			n++
			if k.Meaning == "" || strings.ContainsAny(k.Text(), "`|") || strings.Contains(k.Text(), "](") {
				t.Errorf("%s %s: %q", heading, name, k.Text())
			}
		}
	}
	if n < 150 {
		t.Errorf("%d keys", n)
	}
}

// TestNoKeyIsDescribedTwice in one table: the later row would hide the other from
// an editor, and a reader would believe either.
func TestNoKeyIsDescribedTwice(t *testing.T) {
	page, err := os.ReadFile("config.md")
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	rows := 0
	for n, line := range strings.Split(string(page), "\n") {
		if !strings.HasPrefix(line, "| `") {
			seen = nil
			continue
		}
		name := strings.TrimSpace(strings.Split(line, "|")[1])
		if rows++; slices.Contains(seen, name) {
			t.Errorf("config.md:%d: %s has a row already", n+1, name)
		}
		seen = append(seen, name)
	}
	if rows < 150 {
		t.Errorf("%d rows", rows)
	}
}
