package opcua

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/drivers/driverstest"
	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/plant"
)

// What a number meant is known after a restart of the gateway: another namespace
// that has it by then is not taken for it, until the line is another one.
func TestNamespacesAreKnownAfterARestart(t *testing.T) {
	s := newPLC(t, plantsim.OPCUAOptions{MaxItems: 100})
	notes := filepath.Join(t.TempDir(), "notes", "dut.json")
	rename := func(uri string) {
		t.Helper()
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		s.Rename(uri)
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
	}
	// run is one life of the gateway; it ends with the first value of the tag.
	run := func(path, node string) plant.Reading {
		t.Helper()
		d := checkPlan(t, "driver: opcua\nendpoint: opc.tcp://ENDPOINT"+path+"\ntags: {made: '"+node+"'}\n", s.Addr()).
			Open(drivers.Env{Name: driverstest.Device, Log: zap.NewNop(), Notes: notes})
		defer d.Close()
		connect(t, d, 1)
		var got plant.Reading
		until(t, d, node, func(scan plant.Scan) (ok bool) {
			got, ok = find(scan, "made")
			return ok
		})
		return got
	}
	good := func(r plant.Reading) {
		t.Helper()
		if r.Quality != plant.Good || r.Value != plant.UintValue(4711) {
			t.Fatalf("%+v", r)
		}
	}
	bad := func(r plant.Reading, cause string) {
		t.Helper()
		if r.Quality != plant.Bad || !strings.Contains(r.Cause, cause) {
			t.Fatalf("%+v, want %q", r, cause)
		}
	}

	good(run("", "ns=2;s=Line.Made"))
	rename("urn:other")
	bad(run("", "ns=2;s=Line.Made"), "namespace 2 was "+plantsim.OPCUANamespace+" and is now urn:other: write nsu="+plantsim.OPCUANamespace+"; instead of ns=2;")
	bad(run("", "ns=2;s=Line.Made"), "delete "+notes+" and restart the gateway if ns=2 is right")
	good(run("/another", "ns=2;s=Line.Made")) // another endpoint: pinned anew
	rename("")
	bad(run("/another", "ns=2;s=Line.Made"), "namespace 2 was urn:other")
	if err := os.Remove(notes); err != nil {
		t.Fatal(err)
	}
	good(run("/another", "ns=2;s=Line.Made"))

	// It is followed to where it is now.
	moved := `{"endpoint": "opc.tcp://` + s.Addr() + `", "tags": {"made": {"node": "ns=3;s=Line.Made", "namespace": "` + plantsim.OPCUANamespace + `"}}}`
	if err := os.WriteFile(notes, []byte(moved), 0o600); err != nil {
		t.Fatal(err)
	}
	good(run("", "ns=3;s=Line.Made"))
	good(run("", "ns=2;s=Line.Made")) // the line is another one

	for _, damaged := range []string{"", "{", "null", moved[:len(moved)/2]} {
		if err := os.WriteFile(notes, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		bad(run("", "ns=2;s=Line.Made"), "is noted in "+notes+", which cannot be read")
		good(run("", "nsu="+plantsim.OPCUANamespace+";s=Line.Made"))
		if data, err := os.ReadFile(notes); err != nil || string(data) != damaged {
			t.Fatalf("the damaged file is now %q, %v", data, err)
		}
	}
}

// Where the notes cannot be written the values come, and the page says what is
// missing; once they can be, the next session writes them.
func TestNamespacesThatCannotBeNoted(t *testing.T) {
	s := newPLC(t, plantsim.OPCUAOptions{})
	folder := filepath.Join(t.TempDir(), "notes")
	if err := os.WriteFile(folder, nil, 0o600); err != nil { // a file is where the folder should be
		t.Fatal(err)
	}
	d, ok := openText(t, "driver: opcua\nendpoint: opc.tcp://ENDPOINT\ntags: {made: ns=2;s=Line.Made}\n", s.Addr()).(*driver)
	if !ok {
		t.Fatal("no driver")
	}
	d.recalled, d.notes = true, filepath.Join(folder, "dut.json")
	for session := uint64(1); session <= 2; session++ {
		connect(t, d, session)
		until(t, d, "made", func(scan plant.Scan) bool {
			r, ok := find(scan, "made")
			return ok && r.Quality == plant.Good
		})
		if said := strings.Join(d.Advice(), "\n"); strings.Contains(said, "could not be noted") != (session == 1) {
			t.Errorf("session %d: %s", session, said)
		}
		if session == 1 {
			if err := os.Remove(folder); err != nil {
				t.Fatal(err)
			}
		}
	}
	n, err := readNoted(d.notes)
	if err != nil || len(n.Tags) != 1 || n.Tags["made"] != (pin{Node: "ns=2;s=Line.Made", Namespace: plantsim.OPCUANamespace}) {
		t.Errorf("%+v, %v", n, err)
	}
}
