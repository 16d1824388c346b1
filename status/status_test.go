package status

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

func TestHealth(t *testing.T) {
	broken := wellPlant()
	broken.Buffer.Fault = "sync: input/output error"
	starting := wellPlant()
	starting.Ready, starting.Waiting = false, []string{"the machines load their states"}
	silent := starting
	silent.Waiting = nil
	for _, tt := range []struct {
		name, path string
		snap       Snapshot
		code       int
		words      string
	}{
		{"well", "/healthz", wellPlant(), 200, "ok"},
		{"a device and a broker away are healthy", "/healthz", plantAt(), 200, "ok"},
		{"starting is healthy", "/healthz", starting, 200, "ok"},
		{"latched buffer", "/healthz", broken, 503, "sync: input/output error"},
		{"well", "/readyz", wellPlant(), 200, "ready"},
		{"a device and a broker away are ready", "/readyz", plantAt(), 200, "ready"},
		{"starting", "/readyz", starting, 503, "the machines load their states"},
		{"starting without a reason", "/readyz", silent, 503, "starting"},
		{"latched buffer", "/readyz", broken, 503, "failed write"},
	} {
		t.Run(tt.path+" "+tt.name, func(t *testing.T) {
			w := ask(t, tt.snap, "GET", tt.path)
			if w.Code != tt.code || !strings.Contains(w.Body.String(), tt.words) {
				t.Errorf("got %d %q, want %d with %q", w.Code, w.Body, tt.code, tt.words)
			}
		})
	}
}

// TestGolden keeps the page and the API document as they are read: a change of
// either is seen in the golden file. The names of the API are stable.
func TestGolden(t *testing.T) {
	for _, tt := range []struct{ path, file string }{
		{"/api/v1/status", "status.json"},
		{"/", "page.html"},
	} {
		t.Run(tt.file, func(t *testing.T) {
			w := ask(t, plantAt(), "GET", tt.path)
			if w.Code != 200 {
				t.Fatalf("got %d: %s", w.Code, w.Body)
			}
			golden := filepath.Join("testdata", tt.file)
			if *update {
				if err := os.WriteFile(golden, w.Body.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got := w.Body.String(); got != string(want) {
				t.Errorf("%s differs from %s (-update rewrites it):\n%s", tt.path, golden, got)
			}
		})
	}
}

// TestDocumented holds docs/api.md against what is served: each field of the
// JSON is described, and each metric that it names exists.
func TestDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "api.md"))
	if err != nil {
		t.Fatal(err)
	}
	doc := string(text)
	snap := plantAt()
	snap.Uplinks[0].Problems = []uplink.Problem{{Machine: "PRESS-01", Kind: plant.KindCounter, Text: "no"}}
	snap.Buffer.Fault, snap.Buffer.FullReason = "fault", "reason"
	fields := regexp.MustCompile(`(?m)^ +"([a-z_]+)":`)
	for _, m := range fields.FindAllStringSubmatch(ask(t, snap, "GET", "/api/v1/status").Body.String(), -1) {
		name := m[1]
		if name == "counter" || name == "startstop" || name == "bad" {
			continue // keys of the plant, not of the API
		}
		if !strings.Contains(doc, "`"+name+"`") && !strings.Contains(doc, "`"+name+"[]`") && !strings.Contains(doc, "`"+name+"{") {
			t.Errorf("docs/api.md does not describe the field %s", name)
		}
	}
	served := ask(t, snap, "GET", "/metrics").Body.String()
	for _, name := range regexp.MustCompile(`sluice_[a-z_]+[a-z]`).FindAllString(doc, -1) {
		if !strings.Contains(served, "\n"+name+" ") && !strings.Contains(served, "\n"+name+"{") {
			t.Errorf("docs/api.md speaks of %s, which is not served", name)
		}
	}
}

func TestClockThatNobodyKeepsRightIsSaid(t *testing.T) {
	const words = "Nothing keeps the clock of this PC right"
	for _, uncertain := range []bool{false, true} {
		snap := wellPlant()
		snap.ClockUncertain = uncertain
		if page := ask(t, snap, http.MethodGet, "/").Body.String(); strings.Contains(page, words) != uncertain {
			t.Errorf("uncertain %v: the page says %q: %v", uncertain, words, !uncertain)
		}
		if doc := ask(t, snap, http.MethodGet, "/api/v1/status").Body.String(); !strings.Contains(doc, fmt.Sprintf(`"clock_uncertain": %v`, uncertain)) {
			t.Errorf("uncertain %v: the status does not say so:\n%s", uncertain, doc)
		}
	}
}

func TestEmptyStatusHasListsNotNull(t *testing.T) {
	w := ask(t, Snapshot{At: noon}, "GET", "/api/v1/status")
	var doc map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"problems", "devices", "machines", "uplinks", "not_ready"} {
		if _, ok := doc[name].([]any); !ok {
			t.Errorf("%s is %v, want a list", name, doc[name])
		}
	}
}

func TestSchemas(t *testing.T) {
	want, ok := plant.Schema(plant.KindCounter, 1)
	if !ok {
		t.Fatal("plant has no schema of counter.v1")
	}
	w := ask(t, plantAt(), "GET", "/api/v1/schemas/counter.v1.json")
	if w.Code != 200 || w.Body.String() != string(want) || w.Header().Get("Content-Type") != "application/schema+json" {
		t.Errorf("got %d %s, %d bytes of %d", w.Code, w.Header().Get("Content-Type"), w.Body.Len(), len(want))
	}
	if other := ask(t, plantAt(), "GET", "/api/v1/schemas/counter/1"); other.Code != 200 || other.Body.String() != string(want) {
		t.Errorf("by kind and version: got %d, %d bytes", other.Code, other.Body.Len())
	}
	var list struct {
		Schemas []struct {
			Kind    plant.EventKind
			Version uint8
			ID      string
			Path    string
		}
	}
	if err := json.Unmarshal(ask(t, plantAt(), "GET", "/api/v1/schemas").Body.Bytes(), &list); err != nil || len(list.Schemas) < len(plant.EventKinds()) {
		t.Fatalf("%d schemas are listed: %v", len(list.Schemas), err)
	}
	for _, s := range list.Schemas {
		var doc struct {
			ID string `json:"$id"`
		}
		if err := json.Unmarshal(ask(t, plantAt(), "GET", s.Path).Body.Bytes(), &doc); err != nil || doc.ID != s.ID || s.ID != plant.SchemaURI(s.Kind, s.Version) {
			t.Errorf("%+v: %v, %s", s, err, doc.ID)
		}
	}
	for _, name := range []string{"counter/9", "counter/01", "counter/", "nothing/1", "counter/1/2", "counter.v9.json", "counter.v01.json", "counter.v+1.json", "counter.v256.json", "counter.json", "counter.v1", "nothing.v1.json", "..%2fschema.v1.json", ".v1.json", "COUNTER.v1.json"} {
		if w := ask(t, plantAt(), "GET", "/api/v1/schemas/"+name); w.Code != 404 {
			t.Errorf("%s: got %d, want 404", name, w.Code)
		}
	}
}

// TestInert plants HTML in everything that comes from outside and looks for it
// unescaped.
func TestInert(t *testing.T) {
	for _, payload := range []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `'><svg/onload=alert(1)>`, `</title><script>x</script>`,
		`<a href="javascript:alert(1)">`, `{{.Gateway}}<b>`, `<!--<script>`, `</dd></article><iframe src=//evil>`,
	} {
		snap := plantAt()
		snap.Gateway, snap.Version = payload, payload
		d, m, u := &snap.Devices[0], &snap.Machines[1], &snap.Uplinks[0]
		d.Device, d.LastError, d.Endpoint = plant.DeviceID(payload), payload, payload
		snap.Devices[1].BadTags = map[plant.TagID]string{plant.TagID(payload): payload}
		m.Machine, m.Reason, m.Order, m.Mode, m.ModeBy, m.Shift, m.Problems = plant.MachineID(payload), payload, payload, plant.Mode(payload), payload, payload, []derive.Problem{{Text: payload, Remedy: payload}}
		u.Uplink, u.LastError, u.Endpoint = payload, payload, payload
		m.OrderContext = plant.Order{Number: payload, SKU: payload, Operation: payload, WorkCenter: payload}
		snap.Feeds[m.Machine] = []plant.DeviceID{d.Device}
		snap.Buffer.Fault, snap.Buffer.Path, snap.Waiting, snap.Ready = payload, payload, []string{payload}, false
		body := ask(t, snap, "GET", "/").Body.String()
		if strings.Contains(body, payload) {
			t.Errorf("the page holds %s as it is", payload)
		}
		for _, tag := range []string{"<script", "<img", "<svg", "<iframe", "<b>", "<a href=\"javascript"} {
			if strings.Contains(body, tag) {
				t.Errorf("%s of %s is in the page", tag, payload)
			}
		}
		if json := ask(t, snap, "GET", "/api/v1/status"); strings.ContainsAny(json.Body.String(), "<>") {
			t.Errorf("%s is in the JSON as it is", payload)
		}
	}
}
