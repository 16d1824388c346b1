package main

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/admin"
	"github.com/sluice-edge/sluice/internal/plantsim"
)

// trustingPlant is a config with a server that shows a certificate.
func trustingPlant(t *testing.T, more string) (config string, s *plantsim.OPCUA, c *plantsim.Certificate) {
	t.Helper()
	c, err := plantsim.NewCertificate("urn:sluice:plantsim", time.Now().Add(-time.Hour), time.Now().Add(365*24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if s, err = plantsim.NewOPCUA(plantsim.OPCUAOptions{Addr: "127.0.0.1:0", Certificate: c}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	s.Set("Line.Made", uint32(1))
	dir := t.TempDir()
	config = filepath.Join(dir, "sluice.yaml")
	text := fmt.Sprintf(`site: {enterprise: acme, site: lisbon, area: packing, gateway: gw-1}
buffer: {path: %q, quota: 512 MiB}
http: {listen: "127.0.0.1:0"}
devices:
  filler:
    driver: opcua
    endpoint: opc.tcp://%s
    channel: Basic256Sha256
%s    tags: {made: {node: ns=2;s=Line.Made, type: uint32}}
machines:
  FILLER-01: {device: filler, counter: {total: made, max_rate: 20/s}}
uplinks:
  erp: {driver: rest, url: "http://127.0.0.1:9/"}
`, filepath.Join(dir, "data"), s.Addr(), more)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config, s, c
}

// A person sees whom the running gateway turned away, trusts that, and the
// gateway connects by itself; all of it is in the audit log.
func TestTrustWithARunningGateway(t *testing.T) {
	config, s, c := trustingPlant(t, "")
	runGateway(t, config)
	var all []admin.TrustEntry
	comes(t, "the server is turned away", func() bool {
		all = nil
		if err := json.Unmarshal([]byte(works(t, "trust", "list", "--json", "-c", config)), &all); err != nil {
			t.Fatal(err)
		}
		return len(all) == 2
	})
	if all[0].Place != "own" || len(all[0].URIs) != 1 || !strings.HasSuffix(all[0].URIs[0], ":sluice:gw-1") || all[1].Place != "rejected" || all[1].Fingerprint != c.SHA256() {
		t.Errorf("%+v", all)
	}
	if out := works(t, "trust", "list", "-c", config); !strings.Contains(out, "turned away: plantsim, until ") || !strings.Contains(out, "sha256  "+c.SHA256()) || strings.Contains(out, "PRIVATE") {
		t.Error(out)
	}
	if n := s.Counts().Sessions; n != 0 {
		t.Errorf("%d sessions with a server that is not trusted", n)
	}
	if out := works(t, "trust", "add", c.SHA256()[:20], "-c", config); !strings.Contains(out, "trusted: plantsim") {
		t.Error(out)
	}
	comes(t, "the gateway connects by itself", func() bool { return s.Counts().OpenSessions == 1 })

	for _, bad := range []struct {
		args string
		code int
		want string
	}{
		{"add " + c.SHA256(), 1, "was turned away"},
		{"add 0123456789", exitUsage, "neither a fingerprint"},
		{"add " + config, exitUsage, "no certificate in PEM or DER"},
		{"remove 0123456789abcdef", 1, "no certificate 0123456789abcdef"},
		{"remove 01234567", exitUsage, "no fingerprint"},
	} {
		if _, talk, code := sluice(t, append(append([]string{"trust"}, strings.Fields(bad.args)...), "-c", config)...); code != bad.code || !strings.Contains(talk, bad.want) {
			t.Errorf("trust %s: exit %d, %s", bad.args, code, talk)
		}
	}
	before := all[0].Fingerprint
	if out := works(t, "trust", "renew", "-c", config); strings.Contains(out, before) || !strings.Contains(out, "the gateway's own: sluice gw-1@") {
		t.Error(out)
	}
	if out := works(t, "trust", "remove", c.SHA256(), "-c", config); !strings.Contains(out, "it was trusted") {
		t.Error(out)
	}
	log := works(t, "audit", "show", "-c", config)
	for _, want := range []string{"trust.add  " + c.SHA256() + "  done", "trust.remove  " + c.SHA256() + "  done", "before: " + before, admin.Me()} {
		if !strings.Contains(log, want) {
			t.Errorf("no %q in\n%s", want, log)
		}
	}
}

// Before the first start a certificate is brought as a file, into the folder that
// the config names.
func TestTrustBeforeTheFirstStart(t *testing.T) {
	config, s, c := trustingPlant(t, "    pki: certificates\n")
	folder := filepath.Join(filepath.Dir(config), "certificates")
	if out := works(t, "trust", "list", "-c", config); !strings.Contains(out, "no certificate yet") {
		t.Error(out)
	}
	if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("looking made the folder: %v", err)
	}
	file := filepath.Join(filepath.Dir(config), "plc.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.DER}), 0o600); err != nil {
		t.Fatal(err)
	}
	works(t, "trust", "add", file, "-c", config)
	if _, err := os.Stat(filepath.Join(folder, "trusted", c.SHA256()+".der")); err != nil {
		t.Error(err)
	}
	if out := works(t, "audit", "show", "-c", config); !strings.Contains(out, "trust.add  "+c.SHA256()+"  done") {
		t.Error(out)
	}
	runGateway(t, config)
	comes(t, "the gateway connects", func() bool { return s.Counts().OpenSessions == 1 })
}

// A config without certificates has nothing to trust, and says so.
func TestTrustOfNobody(t *testing.T) {
	config, _ := storedPlant(t, "http://127.0.0.1:9/", "")
	if _, talk, code := sluice(t, "trust", "list", "-c", config); code != 1 || !strings.Contains(talk, "no device of the config has certificates") {
		t.Errorf("exit %d, %s", code, talk)
	}
}

// comes polls until done says so.
func comes(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after a minute: %s", what)
		}
	}
}
