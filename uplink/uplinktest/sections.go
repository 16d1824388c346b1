package uplinktest

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// Sections is a kind of uplink as a config meets it.
type Sections struct {
	// Driver is its word after "driver:", and Check what the config does with a
	// section: that of the Kind.
	Driver string
	Check  func(*config.Section) (uplink.Plan, config.Faults)
	// Plain and Secure are the least that a section has, in YAML, without TLS and
	// with it. Secure is empty for a kind that has no ca, cert and key.
	Plain, Secure string
}

// Plan checks the text of a section, which is written without its driver.
func (s Sections) Plan(t testing.TB, text string) (uplink.Plan, config.Faults) {
	t.Helper()
	section, faults := config.ParseSection("mes", filepath.Join(t.TempDir(), "sluice.yaml"), "driver: "+s.Driver+"\n"+text)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return s.Check(section)
}

// Canary is a secret that no fault may show; put it where a config has one.
const Canary = "hunter2"

// Faults checks each text and looks for the words of the fault that it must
// have. Each fault has a remedy, and none shows Canary.
func (s Sections) Faults(t *testing.T, texts map[string]string) {
	t.Helper()
	for text, want := range texts {
		t.Run("", func(t *testing.T) { // a name would stand in the file's path
			_, faults := s.Plan(t, text)
			var all []string
			for _, f := range faults {
				all = append(all, f.String())
				if f.Remedy == "" {
					t.Errorf("no remedy in %s", f)
				}
			}
			got := strings.Join(all, "\n")
			if !strings.Contains(got, want) || (want == "") != (got == "") || strings.Contains(got, Canary) {
				t.Errorf("%s\nfaults %q, want one with %q", text, got, want)
			}
		})
	}
}

// RunSections holds a kind to the keys that every uplink has, so that their
// tests stand once: those of uplink.Options, kinds, and the files of TLS.
func RunSections(t *testing.T, s Sections) {
	plain := s.Plain + "\n"
	s.Faults(t, map[string]string{
		plain + "concurrent: 4":                    warnings(t, s, s.Plain),
		plain + "concurrent: 0":                    "mes.concurrent",
		plain + "batch_bytes: 1 B":                 "mes.batch_bytes",
		plain + "backoff_min: 5s\nbackoff_max: 1s": "mes.backoff_max",
		plain + "stop_timeout: 4s":                 "mes.stop_timeout",
		plain + "hold_after: 0":                    "mes.hold_after",
		plain + "kinds: [counter, count]":          `kinds[1]: there is no kind of event "count"`,
		plain + "kinds: [counter, counter]":        "named twice",
		plain + "concurent: 4":                     "did you mean `concurrent`",
		"concurrent: 4":                            "is missing",
		plain + "send_timeout: 1ms":                "send_timeout",
	})
	p, faults := s.Plan(t, plain+"kinds: [counter, startstop]\nconcurrent: 4\n")
	if len(faults.Errors()) > 0 || p.Options.Concurrent != 4 || p.Endpoint == "" {
		t.Errorf("plan %+v, faults %v", p, faults)
	}
	for kind, want := range map[plant.EventKind]bool{plant.KindCounter: true, plant.KindStartStop: true, plant.KindGap: true, plant.KindParameters: false} {
		if p.Carries(kind) != want {
			t.Errorf("Carries(%s) = %v", kind, !want)
		}
	}
	if s.Secure != "" {
		s.runTLS(t)
	}
}

// warnings returns the first warning that a good section has anyway.
func warnings(t *testing.T, s Sections, text string) string {
	t.Helper()
	_, faults := s.Plan(t, text)
	if len(faults.Errors()) > 0 {
		t.Fatal(faults)
	}
	if len(faults) == 0 {
		return ""
	}
	return faults[0].Problem
}

func (s Sections) runTLS(t *testing.T) {
	t.Helper()
	a := NewAuthority(t)
	for _, name := range []string{"one", "two"} {
		a.Issue(t, name, time.Now().Add(time.Hour))
	}
	secure := s.Secure + "\n"
	files := func(cert, key config.Path) string { return "cert: " + string(cert) + "\nkey: " + string(key) }
	s.Faults(t, map[string]string{
		s.Plain + "\nca: ca.pem":                                                     "without TLS",
		secure + "ca: none.pem":                                                      "cannot be read",
		secure + "cert: c.pem":                                                       "belong together",
		secure + "ca: " + string(a.Key("one")):                                       "no certificate",
		secure + files(a.Cert("one"), a.Key("two")):                                  "do not go together",
		secure + files(a.Cert("one"), a.Key("no")):                                   "cannot be read",
		secure + "ca: " + string(a.CA()) + "\n" + files(a.Cert("one"), a.Key("one")): warnings(t, s, s.Secure),
	})
}
