package opcua

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/pki"
	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/plant"
)

// TestForeignServerTrust takes node-opcua through what happens to certificates in
// a plant: every policy and mode with every kind of login, a server that nobody
// trusts, one that shows a new certificate after a restart, one that has ended,
// and one of another application.
func TestForeignServerTrust(t *testing.T) {
	const uri, year = "urn:plc:line", 365 * 24 * time.Hour
	f := idleForeign(t, "trust.js")
	t.Setenv("OPCUA_PASSWORD", "s3cret")
	t.Setenv("OPCUA_WRONG", "wrong-s3cret")
	store := pki.New(t.TempDir())
	person := newCertificate(t, "urn:person", -time.Hour, year)
	certs, keys := writeFiles(t, person)
	restart := func(c *plantsim.Certificate) {
		t.Helper()
		f.kill()
		serverCerts, serverKeys := writeFiles(t, c)
		f.start(t, serverCerts["PEM"], serverKeys["PKCS#8 PEM"], uri)
	}
	trust := func(c *plantsim.Certificate) {
		t.Helper()
		found, err := store.Find(pki.Rejected, c.SHA256())
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Add(pki.Trusted, found.Certificate); err != nil {
			t.Fatal(err)
		}
	}
	text := func(channel, login string) string {
		return "driver: opcua\nendpoint: opc.tcp://ENDPOINT\ntimeout: 20s\npublishing: 50ms\nchannel: " + channel + "\n" + login + "\ntags: {made: 'nsu=urn:line;s=Line.Made'}\n"
	}
	refused := func(text, want string) {
		t.Helper()
		d, _ := openTrusting(t, text, f.addr(), store)
		if err := d.Connect(t.Context(), 1); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%v, want %q", err, want)
		}
	}

	first := newCertificate(t, uri, -time.Hour, year)
	restart(first)
	refused(text("Basic256Sha256", ""), "is not trusted: its SHA-256 is "+first.SHA256())
	trust(first)
	logins := []string{"", "login: {user: gateway, password: env:OPCUA_PASSWORD}", fmt.Sprintf("login: {cert: %s, key: %s}", certs["PEM"], keys["PKCS#8 PEM"])}
	for _, policy := range []string{"Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss"} {
		for _, mode := range []string{"Sign", "SignAndEncrypt"} {
			for _, login := range logins {
				d, _ := openTrusting(t, text("{policy: "+policy+", mode: "+mode+"}", login), f.addr(), store)
				begin := time.Now()
				connect(t, d, 1)
				took := time.Since(begin)
				until(t, d, "value", func(s plant.Scan) bool {
					r, ok := find(s, "made")
					return ok && r.Value == plant.UintValue(4711)
				})
				d.Close()
				kind, _, _ := strings.Cut(strings.TrimPrefix(login, "login: {"), ":")
				t.Logf("%s/%s %s → connected in %v", policy, mode, kind, took.Round(time.Millisecond))
			}
		}
	}
	d, _ := openTrusting(t, text("None\nallow_insecure: true", logins[1]), f.addr(), nil)
	worksWith(t, d, 1)
	refused(text("Basic256Sha256", "login: {user: gateway, password: env:OPCUA_WRONG}"), "does not take this login")

	second := newCertificate(t, uri, -time.Hour, year)
	restart(second)
	refused(text("Basic256Sha256", ""), "it was "+first.SHA256()+", now it is "+second.SHA256())
	trust(second)
	d, _ = openTrusting(t, text("Basic256Sha256", ""), f.addr(), store)
	worksWith(t, d, 1)

	ended := newCertificate(t, uri, -48*time.Hour, -24*time.Hour)
	restart(ended)
	refused(text("Basic256Sha256", ""), "is not trusted")
	trust(ended)
	refused(text("Basic256Sha256", ""), "the server's certificate ended on")

	other := newCertificate(t, "urn:plc:another", -time.Hour, year)
	restart(other)
	refused(text("Basic256Sha256", ""), "is not trusted")
	trust(other)
	refused(text("Basic256Sha256", ""), "is for the application urn:plc:another, and the server says it is "+uri)
}
