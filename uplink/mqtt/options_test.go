package mqtt

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// check runs the kind over the text of an uplink's section.
func check(t *testing.T, text string) (uplink.Plan, config.Faults) {
	t.Helper()
	s, faults := config.ParseSection("broker", filepath.Join(t.TempDir(), "sluice.yaml"), "driver: mqtt\n"+text)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return Kind.Check(s)
}

func TestCheckAcceptsAnUplink(t *testing.T) {
	p, faults := check(t, "url: mqtts://broker.example\nkinds: [counter, startstop]\nconcurrent: 4\nwindow: 100\n")
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if p.Endpoint != "mqtts://broker.example:8883" || p.Options.Concurrent != 4 || p.Options.BatchEvents != uplink.DefaultOptions().BatchEvents {
		t.Errorf("plan %+v", p)
	}
	for kind, want := range map[plant.EventKind]bool{"counter": true, "startstop": true, "gap": true, "parameters": false} {
		if p.Carries(kind) != want {
			t.Errorf("Carries(%s) = %v", kind, !want)
		}
	}
}

func TestCheckNamesEachFault(t *testing.T) {
	for text, want := range map[string]string{
		"window: 5":                                      "url",
		"url: broker.example":                            "does not begin with",
		"url: http://broker.example":                     "does not begin with",
		"url: ws://broker.example":                       "WebSocket",
		"url: tcp://u:geheim@broker.example":             "use user: and password:",
		"url: 'tcp://:1883'":                             "names no host",
		"url: tcp://broker.example/x":                    "behind host and port",
		"url: tcp://broker.example:0":                    "port",
		"url: tcp://broker.example:70000":                "port",
		"url: tcp://10.0.0.300":                          "no IPv4 address",
		"url: tcp://10,0,0,7:1883":                       "holds ','",
		"url: tls://broker.example:1883":                 "warning",
		"url: mqtt://broker.example:8883":                "warning",
		"url: tcp://b\ntopic: 'a/{mashine}'":             "did you mean {machine}?",
		"url: 'tcp://broker.example:1883 '":              "no URL",
		"url: tcp://b\nwindow: 0":                        "window",
		"url: tcp://b\nwindow: 101":                      "window",
		"url: tcp://b\nwindow_bytes: 1 B":                "window_bytes",
		"url: tcp://b\nmax_packet: 1 GiB":                "max_packet",
		"url: tcp://b\nkeep_alive: 1500ms":               "keep_alive",
		"url: tcp://b\nconnect_timeout: 0s":              "connect_timeout",
		"url: tcp://b\nack_timeout: 1h":                  "ack_timeout",
		"url: tcp://b\nsend_timeout: 10s":                "send_timeout",
		"url: tcp://b\nstop_timeout: 4s":                 "stop_timeout",
		"url: tcp://b\nconcurrent: 0":                    "concurrent",
		"url: tcp://b\nbackoff_min: 5s\nbackoff_max: 1s": "backoff_max",
		"url: tcp://b\ntopic: 'a/#'":                     "wildcard",
		"url: tcp://b\ntopic: a//{machine}":              "empty level",
		"url: tcp://b\ntopic: /a/{machine}":              "empty level",
		"url: tcp://b\ntopic: a/{machine":                "braces",
		"url: tcp://b\ntopic: a/{machine}}":              "braces",
		"url: tcp://b\ntopic: a/{line}/{machine}":        "no placeholder {line}",
		"url: tcp://b\ntopic: $SYS/{machine}":            "begins with $",
		"url: tcp://b\ntopic: ''":                        "empty",
		"url: tcp://b\ntopic: \"a\\u0000/{machine}\"":    "control character",
		"url: tcp://b\ntopic: plain":                     "warning",
		"url: tcp://b\nstatus_topic: s/{machine}":        "no placeholder {machine}",
		"url: tcp://b\nkinds: [counter, count]":          `kinds[1]: there is no kind of event "count"`,
		"url: tcp://b\nkinds: [counter, counter]":        "named twice",
		"url: tcp://b\nca: ca.pem":                       "without TLS",
		"url: tls://b\nca: ca.pem":                       "cannot be read",
		"url: tls://b\ncert: c.pem":                      "belong together",
		"url: tls://b\ncert: c.pem\nkey: k.pem":          "cannot be read",
		"url: tcp://b\nclient_id: \"a\\tb\"":             "client_id",
		"url: tcp://b\ntopics: x":                        "topic",
	} {
		t.Run("", func(t *testing.T) { // a name would stand in the file's path
			_, faults := check(t, text)
			var all []string
			for _, f := range faults {
				all = append(all, f.String())
				if f.Remedy == "" {
					t.Errorf("no remedy in %s", f)
				}
			}
			if got := strings.Join(all, "\n"); !strings.Contains(got, want) || strings.Contains(got, "geheim") {
				t.Errorf("%s\nfaults %q, want one with %q", text, got, want)
			}
		})
	}
}

func TestCheckWarnsOfAPasswordInTheClear(t *testing.T) {
	t.Setenv("MQTT_PASSWORD", "geheim")
	for url, warned := range map[string]bool{"tcp://broker.example": true, "tcp://127.0.0.1": false, "tcp://localhost": false, "tls://broker.example": false} {
		_, faults := check(t, "url: "+url+"\nuser: u\npassword: env:MQTT_PASSWORD\n")
		if got := len(faults) == 1 && faults[0].Warning && strings.Contains(faults[0].Problem, "clear text"); got != warned || len(faults.Errors()) > 0 {
			t.Errorf("%s: %v", url, faults)
		}
	}
}

// authority makes certificates for the tests.
type authority struct {
	folder string
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{folder: t.TempDir()}
	a.key = newKey(t)
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	a.write(t, "ca", a.cert, a.key)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue writes name.pem and name.key.
func (a *authority) issue(t *testing.T, name string, ends time.Time, hosts ...string) {
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: ends.Add(-2 * time.Hour), NotAfter: ends, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, h)
		}
	}
	a.write(t, name, c, newKey(t))
}

func (a *authority) write(t *testing.T, name string, c *x509.Certificate, key *ecdsa.PrivateKey) {
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		a.file(name + ".pem"): {Type: "CERTIFICATE", Bytes: der},
		a.file(name + ".key"): {Type: "EC PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (a *authority) file(name string) string { return filepath.Join(a.folder, name) }

func (a *authority) pair(t *testing.T, name string) tls.Certificate {
	p, err := tls.LoadX509KeyPair(a.file(name+".pem"), a.file(name+".key"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCheckReadsCertificates(t *testing.T) {
	a := newAuthority(t)
	a.issue(t, "one", time.Now().Add(time.Hour))
	a.issue(t, "two", time.Now().Add(time.Hour))
	base := "url: tls://b\n"
	for text, want := range map[string]string{
		"ca: " + a.file("ca.pem") + "\ncert: " + a.file("one.pem") + "\nkey: " + a.file("one.key"): "",
		"ca: " + a.file("one.key"):                                   "no certificate",
		"cert: " + a.file("one.pem") + "\nkey: " + a.file("two.key"): "do not go together",
		"cert: " + a.file("one.pem") + "\nkey: " + a.file("no.key"):  "cannot be read",
	} {
		_, faults := check(t, base+text)
		if (want == "") != (len(faults) == 0) || (want != "" && !strings.Contains(faults[0].String(), want)) {
			t.Errorf("%s: %v, want %q", text, faults, want)
		}
	}
}

func TestTopics(t *testing.T) {
	p := newPlace("/acme/lisbon/packing", "gw")
	for _, test := range []struct {
		template string
		machine  plant.MachineID
		want     string
	}{
		{defaults().Topic, "FILLER-01", "sluice/acme/lisbon/packing/FILLER-01/counter"},
		{defaults().Topic, "A/B+C#D%E", "sluice/acme/lisbon/packing/A%2FB%2BC%23D%25E/counter"},
		{defaults().Topic, "Füller 1", "sluice/acme/lisbon/packing/Füller 1/counter"},
		{"{gateway}-{machine}", "x\x00\xff", "gw-x%00%FF"},
		{"{machine}", "", "_"},
	} {
		topics := newTopics(test.template, p)
		for range 2 {
			if got := topics.of(test.machine, plant.KindCounter); got != test.want {
				t.Errorf("%s of %q = %q, want %q", test.template, test.machine, got, test.want)
			}
		}
	}
	if got := expand(defaults().StatusTopic, p.value); got != "sluice/acme/lisbon/packing/_gateway/gw/status" {
		t.Errorf("status topic %q", got)
	}
	if got := expand("{enterprise}/{site}/{area}", newPlace("/acme", "gw").value); got != "acme/_/_" {
		t.Errorf("a short path gives %q", got)
	}
}
