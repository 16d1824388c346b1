//go:build e2e && interop

package main

import (
	"bufio"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/admin"
	"github.com/sluice-edge/sluice/internal/plantsim"
)

// certifiedServer is a node-opcua server that shows the certificate that it is
// started with.
type certifiedServer struct {
	t            *testing.T
	port, folder string
	cmd          *exec.Cmd
}

// show starts the server anew with a new certificate, and returns that.
func (s *certifiedServer) show() *plantsim.Certificate {
	s.t.Helper()
	s.kill()
	const uri = "urn:plc:line"
	c, err := plantsim.NewCertificate(uri, time.Now().Add(-time.Hour), time.Now().Add(365*24*time.Hour))
	if err != nil {
		s.t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(c.Key)
	if err != nil {
		s.t.Fatal(err)
	}
	var files []string
	for kind, der := range map[string][]byte{"CERTIFICATE": c.DER, "PRIVATE KEY": key} {
		file := filepath.Join(s.folder, kind+".pem")
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			s.t.Fatal(err)
		}
		files = append(files, file)
	}
	if strings.Contains(files[0], "PRIVATE") {
		files[0], files[1] = files[1], files[0]
	}
	s.cmd = exec.Command("node", filepath.Join("..", "..", "drivers", "opcua", "testdata", "trust.js"), s.port, s.folder, files[0], files[1], uri)
	s.cmd.Env = append(os.Environ(), "NODE_PATH="+filepath.Join(os.Getenv(interopFolder), "node_modules"))
	s.cmd.Stderr = os.Stderr
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ready := make(chan struct{})
	go func() {
		for in := bufio.NewScanner(out); in.Scan(); {
			if strings.HasPrefix(in.Text(), "ready") {
				close(ready)
			}
		}
	}()
	select {
	case <-ready:
	case <-time.After(foreignPatience):
		s.t.Fatal("the server did not start")
	}
	return c
}

func (s *certifiedServer) kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

// TestInteropTrust takes a running gateway and a node-opcua server through first
// contact and a change of the server's certificate: each time it is refused with an
// alarm and kept among the rejected, and one command lets the gateway connect
// without a restart.
func TestInteropTrust(t *testing.T) {
	s := &certifiedServer{t: t, port: freePort(t), folder: t.TempDir()}
	t.Cleanup(s.kill)
	first := s.show()
	dir, page := t.TempDir(), "127.0.0.1:"+freePort(t)
	config := filepath.Join(dir, "sluice.yaml")
	text := fmt.Sprintf(`site: {enterprise: acme, site: lisbon, area: packing, gateway: gw-1}
buffer: {path: %q, quota: 512 MiB}
http: {listen: %q}
devices:
  filler:
    driver: opcua
    endpoint: opc.tcp://127.0.0.1:%s
    channel: Basic256Sha256
    tags: {made: {node: 'nsu=urn:line;s=Line.Made', type: uint32}}
machines:
  FILLER-01: {device: filler, counter: {total: made, max_rate: 20/s}}
uplinks:
  erp: {driver: rest, url: "http://127.0.0.1:9/"}
`, filepath.Join(dir, "data"), page, s.port)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	runGateway(t, config)

	status := func() (connected bool, alarms string) {
		r, err := http.Get("http://" + page + "/api/v1/status")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		var found struct {
			Devices []struct {
				Name      string
				Connected bool
			}
			Problems json.RawMessage
		}
		if err := json.Unmarshal(b, &found); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
		return len(found.Devices) == 1 && found.Devices[0].Connected, string(found.Problems)
	}
	refused := func(c *plantsim.Certificate, want ...string) {
		t.Helper()
		comes(t, "the refusal of "+c.SHA256()+" is on the page", func() bool {
			connected, alarms := status()
			for _, w := range append(want, "sluice trust add "+c.SHA256()) {
				if connected || !strings.Contains(alarms, w) {
					return false
				}
			}
			return true
		})
		var all []admin.TrustEntry
		if err := json.Unmarshal([]byte(works(t, "trust", "list", "--json", "-c", config)), &all); err != nil {
			t.Fatal(err)
		}
		for _, e := range all {
			if e.Fingerprint == c.SHA256() && e.Place == "rejected" {
				return
			}
		}
		t.Fatalf("%s is not among the rejected: %+v", c.SHA256(), all)
	}
	trusted := func(c *plantsim.Certificate) {
		t.Helper()
		works(t, "trust", "add", c.SHA256(), "-c", config)
		begin := time.Now()
		comes(t, "the gateway connects by itself", func() bool {
			connected, alarms := status()
			return connected && !strings.Contains(alarms, "trust add")
		})
		t.Logf("trusted → connected after %v", time.Since(begin).Round(time.Millisecond))
	}

	refused(first, "is not trusted: its SHA-256 is "+first.SHA256())
	trusted(first)
	second := s.show()
	refused(second, "certificate has changed", "it was "+first.SHA256()+", now it is "+second.SHA256())
	trusted(second)
	if out := works(t, "audit", "show", "-c", config); strings.Count(out, first.SHA256()+"  done") != 1 || strings.Count(out, second.SHA256()+"  done") != 1 {
		t.Errorf("the audit log has\n%s", out)
	}
}
