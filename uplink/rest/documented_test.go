package rest

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink/uplinktest"
)

// documented are the rows of docs/events.md on statuses, by the words that begin
// what they mean, and what that is here.
var documented = map[string]struct {
	all     bool // the whole uplink waits
	outcome outcome
}{
	"a setting is wrong: everything waits": {true, wrong},
	"the same; but only that machine":      {true, unsure}, // nothing was taken before
	"everything waits":                     {true, down},
	"that machine waits":                   {false, again},
}

// Each status that docs/events.md names does what it says there: no 401, 403 or
// 404 puts an event aside, and no status is in two rows.
func TestStatusesDoWhatTheirRowSays(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "events.md"))
	if err != nil {
		t.Fatal(err)
	}
	numbers := regexp.MustCompile(`\b[1-5]\d\d\b`)
	seen := map[string]string{}
	for _, line := range strings.Split(string(text), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			continue
		}
		for begin, want := range documented {
			if !strings.HasPrefix(strings.TrimSpace(cells[2]), begin) || begin == "everything waits" && !strings.Contains(cells[1], "503") {
				continue
			}
			for _, number := range numbers.FindAllString(cells[1], -1) {
				if before, twice := seen[number]; twice {
					t.Errorf("%s is in the rows of %q and %q", number, before, begin)
				}
				seen[number] = begin
				status, err := strconv.Atoi(number)
				if err != nil {
					t.Fatal(err)
				}
				if got := outcomeOf(status); got != want.outcome {
					t.Errorf("%s: outcome %d, want that of %q", number, got, begin)
				}
				r := answering(t, func(_ int, _ request, w http.ResponseWriter) bool { w.WriteHeader(status); return false })
				s := openWith(t, testOptions(r.Addr()))
				if r := s.Send(t.Context(), "M", uplinktest.Events("M", 1, 2)); len(r) != 1 || r[0].Status != plant.Retry || systemWide(r[0]) != want.all {
					t.Errorf("%s: %+v, want %q", number, r, begin)
				}
			}
		}
	}
	for _, number := range []string{"401", "403", "404", "410", "503", "500", "429"} {
		if seen[number] == "" {
			t.Errorf("%s is in no row that was found", number)
		}
	}
}
