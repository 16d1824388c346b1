package opcua

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/drivers/driverstest"
	"github.com/sluice-edge/sluice/internal/pki"
	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/plant"
)

// openTrusting opens a device with a store of certificates.
func openTrusting(t *testing.T, text, addr string, store *pki.Store) (drivers.Driver, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	d := checkPlan(t, text, addr).Open(drivers.Env{Name: driverstest.Device, Gateway: "gw-1", Log: zap.New(core), Certificates: store})
	t.Cleanup(func() { d.Close() })
	return d, logs
}

const secured = "driver: opcua\nendpoint: opc.tcp://ENDPOINT\npublishing: 50ms\nchannel: POLICY\ntags: {made: ns=2;s=Line.Made}\n"

func worksWith(t *testing.T, d drivers.Driver, session uint64) {
	t.Helper()
	connect(t, d, session)
	until(t, d, "value", func(s plant.Scan) bool {
		r, ok := find(s, "made")
		return ok && r.Value == plant.UintValue(4711)
	})
	d.Close()
}

// A gateway that nobody has told anything makes its own certificate, turns the
// server away, works once a person trusts it, and turns its new certificate away.
// Every policy is spoken in both modes.
func TestTrustOfAServer(t *testing.T) {
	server := newCertificate(t, "urn:sluice:plantsim", -time.Hour, 365*24*time.Hour)
	policies := []string{"Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss"}
	s := newPLC(t, plantsim.OPCUAOptions{Certificate: server, Policies: policies})
	store := pki.New(t.TempDir())
	d, logs := openTrusting(t, strings.Replace(secured, "POLICY", "Basic256Sha256", 1), s.Addr(), store)
	err := d.Connect(t.Context(), 1)
	if err == nil || !strings.Contains(err.Error(), "is not trusted: its SHA-256 is "+server.SHA256()) || !strings.Contains(err.Error(), "sluice trust add "+server.SHA256()) {
		t.Fatal(err)
	}
	if n := s.Counts().Sessions; n != 0 {
		t.Errorf("%d sessions with a server that is not trusted", n)
	}
	if n := logs.FilterMessageSnippet("made its own certificate").Len(); n != 1 {
		t.Errorf("%d lines of the gateway's own certificate, want 1: %v", n, logs.All())
	}
	rejected, err := store.Find(pki.Rejected, server.SHA256())
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Add(pki.Trusted, rejected.Certificate); err != nil {
		t.Fatal(err)
	}
	worksWith(t, d, 2)
	for _, policy := range policies {
		for _, mode := range []string{"Sign", "SignAndEncrypt"} {
			t.Run(policy+"/"+mode, func(t *testing.T) {
				d, _ := openTrusting(t, strings.Replace(secured, "POLICY", "{policy: "+policy+", mode: "+mode+"}", 1), s.Addr(), store)
				worksWith(t, d, 1)
			})
		}
	}

	renewed := newCertificate(t, "urn:sluice:plantsim", -time.Hour, 365*24*time.Hour)
	other := newPLC(t, plantsim.OPCUAOptions{Certificate: renewed})
	d, _ = openTrusting(t, strings.Replace(secured, "POLICY", "Basic256Sha256", 1), other.Addr(), store)
	err = d.Connect(t.Context(), 1)
	if err == nil || !strings.Contains(err.Error(), "it was "+server.SHA256()+", now it is "+renewed.SHA256()) || !strings.Contains(err.Error(), "sluice trust add "+renewed.SHA256()) {
		t.Error(err)
	}

	// The pin of older configs needs no store, and wins over it.
	d, _ = openTrusting(t, strings.Replace(secured, "POLICY", "Basic256Sha256\nserver_sha256: "+renewed.SHA256(), 1), other.Addr(), store)
	worksWith(t, d, 1)
	d, _ = openTrusting(t, strings.Replace(secured, "POLICY", "Basic256Sha256\nserver_sha256: "+renewed.SHA256(), 1), s.Addr(), store)
	if err := d.Connect(t.Context(), 1); err == nil || !strings.Contains(err.Error(), "not the trusted one") {
		t.Error(err)
	}
	if n := len(d.(drivers.Noticer).Notices()); n != 0 {
		t.Errorf("%d notices of a device with all security", n)
	}
}

// openWarned opens a device whose config has warnings.
func openWarned(t *testing.T, text, addr string, store *pki.Store) *driver {
	t.Helper()
	s, faults := config.ParseSection("dut", "test.yaml", strings.ReplaceAll(text, "ENDPOINT", addr))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	p, faults := Kind.Check(s)
	if len(faults.Errors()) > 0 {
		t.Fatal(faults)
	}
	return p.Open(drivers.Env{Name: driverstest.Device, Log: zap.NewNop(), Certificates: store}).(*driver)
}

// What is insecure since the config wants it so is on the page for as long, and
// certificates that end are told in time.
func TestNotices(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"channel: None", "anybody on the network can read and change what is sent (channel: None)"},
		{"channel: None\nallow_insecure: true\nlogin: {user: a, password: env:OPCUA_PASSWORD}", "and read the password"},
		{"channel: Basic256Sha256\ntrust: any", "whoever answers is taken for the server (trust: any)"},
		{"channel: Basic256Sha256", ""},
	} {
		t.Setenv("OPCUA_PASSWORD", "s3cret")
		d := openWarned(t, "driver: opcua\nendpoint: opc.tcp://10.0.0.5\ntags: {made: ns=2;s=A}\n"+c.text+"\n", "", nil)
		all := d.Notices()
		if c.want == "" && len(all) == 0 {
			continue
		}
		if len(all) != 1 || !strings.Contains(all[0].Text, c.want) || all[0].Do == "" || strings.Contains(all[0].Text, "s3cret") {
			t.Errorf("%s: %+v, want %q", c.text, all, c.want)
		}
	}
	local := openWarned(t, "driver: opcua\nendpoint: localhost\nchannel: None\ntags: {made: ns=2;s=A}\n", "", nil)
	if all := local.Notices(); len(all) != 0 {
		t.Errorf("a server on this computer: %+v", all)
	}

	store := pki.New(t.TempDir())
	d := openWarned(t, "driver: opcua\nendpoint: opc.tcp://10.0.0.5\nchannel: Basic256Sha256\ntags: {made: ns=2;s=A}\n", "", store)
	id, err := d.own()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(id.cert)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		before time.Duration
		want   string
		urgent bool
	}{
		{31 * day, "", false}, {29 * day, "the gateway's certificate ends on", false}, {13 * day, "less than 14 days", false},
		{day / 2, "within a day", true}, {-time.Hour, "has ended", true},
	} {
		all := d.notices(cert.NotAfter.Add(-c.before))
		if c.want == "" {
			if len(all) != 0 {
				t.Errorf("%v before: %+v", c.before, all)
			}
			continue
		}
		if len(all) != 1 || !strings.Contains(all[0].Text, c.want) || all[0].Urgent != c.urgent || !strings.Contains(all[0].Do, "sluice trust renew") {
			t.Errorf("%v before: %+v, want %q", c.before, all, c.want)
		}
	}

	// The one that a person makes in its place is shown at the next connection, and
	// the notice is gone.
	renewed, err := store.Renew("gw-1")
	if err != nil {
		t.Fatal(err)
	}
	if id, err = d.own(); err != nil || string(id.cert) != string(renewed.Certificate.Raw) || string(id.cert) == string(cert.Raw) {
		t.Errorf("after a renewal another certificate is shown: %v", err)
	}
	if all := d.notices(renewed.Certificate.NotAfter.Add(-31 * day)); len(all) != 0 {
		t.Errorf("after a renewal: %+v", all)
	}
}

// trust: any takes a certificate that nobody knows, and keeps its promise to say so.
func TestTrustAny(t *testing.T) {
	server := newCertificate(t, "urn:sluice:plantsim", -48*time.Hour, -24*time.Hour)
	s := newPLC(t, plantsim.OPCUAOptions{Certificate: server})
	d := openWarned(t, strings.Replace(secured, "POLICY", "Basic256Sha256\ntrust: any", 1), s.Addr(), pki.New(t.TempDir()))
	t.Cleanup(func() { d.Close() })
	worksWith(t, d, 1)
	if all := d.Notices(); len(all) != 1 || !strings.Contains(all[0].Text, "trust: any") {
		t.Errorf("%+v", all)
	}
}
