//go:build e2e && interop

package main

import (
	"bufio"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/sluice-edge/sluice/internal/faultnet"
	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/plant"
)

// interopFolder is where make interop has installed the npm packages.
const interopFolder = "SLUICE_INTEROP_FOLDER"

// TestInterop lets the built binary work between parts that nobody here wrote:
// a PLC on a pymodbus server with doses by handshake, a PLC on a node-opcua
// server with serial numbers by handshake over an encrypted channel, and
// mosquitto; with kills of the gateway, cuts, freezes, a restart of the broker's
// link, and counters that begin again at 0. The counts are compared at both
// ends, piece by piece and record by record.
func TestInterop(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 3))
	b := &e2eBed{t: t, dir: t.TempDir(), binary: buildSluice(t), mes: plantsim.NewMES()}
	scale := startForeign(t, "/usr/bin/python3", filepath.Join("..", "..", "tools", "interop", "plc_pymodbus.py"), freePort(t))
	line := startForeign(t, "node", nodeScript(t, "plc_nodeopcua.mjs"), freePort(t), filepath.Join(b.dir, "node-opcua"))
	broker := startMosquitto(t, b.dir)
	subscribe(t, broker, b.mes)
	links := map[string]*faultnet.Proxy{}
	for name, target := range map[string]string{"scale": scale.hello.Addrs[0], "line": strings.TrimSuffix(strings.TrimPrefix(line.hello.Addrs[0], "opc.tcp://"), "/"), "broker": broker} {
		proxy, err := faultnet.New(target)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = proxy.Close() })
		links[name] = proxy
	}
	writeInteropConfig(t, b, links, line.hello.Fingerprint)

	cmd := b.start()
	b.until(60*time.Second, "not every machine's first state has arrived", func() bool { return b.mes.Count(plant.KindStartStop) >= 2 })
	scale.ask("start")
	line.ask("start")
	for round := range 12 {
		for range 3 {
			scale.ask("dose")
			line.ask("serial")
		}
		b.arrivals(10*time.Second, 10)
		switch round % 6 {
		case 0, 3:
			b.kill(cmd)
			cmd = b.start()
		case 1:
			links["scale"].Cut()
			links["line"].Cut()
		case 2:
			links["broker"].Cut()
		case 4:
			links["line"].Stall()
			links["scale"].Stall()
			time.Sleep(time.Duration(1500+r.IntN(1500)) * time.Millisecond) // the freeze must last
			links["line"].Pass()
			links["scale"].Pass()
		case 5: // a power cycle with the line at rest
			line.ask("stop")
			// What a PLC forgets before it was read, nobody can count: its last
			// number must have been seen, which takes a moment after a freeze.
			read := func() bool { return b.mes.Pieces("PACKER") == line.ask("made").Pieces }
			if !b.within(60*time.Second, read) {
				t.Fatalf("round %d: the count of the resting line does not arrive: %v\n%s\n%s",
					round, interopDifferences(b, scale, line), b.get("api/v1/status"), b.output.tail())
			}
			line.ask("restart")
			line.ask("start")
		}
	}
	scale.ask("stop")
	line.ask("stop")
	differences := func() []string { return interopDifferences(b, scale, line) }
	b.within(60*time.Second, func() bool { return len(differences()) == 0 })
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the gateway did not end in order: %v\n%s", err, b.output.tail())
	}
	s, l := scale.ask("made"), line.ask("made")
	t.Logf("seed %d, %d SIGKILLs\npymodbus PLC: pieces %d → %d, doses %d → %d\nnode-opcua PLC: pieces %d → %d, serials %d → %d\n%d events by mosquitto, %d duplicates recognised",
		seed, b.kills, s.Pieces, b.mes.Pieces("MIXER"), s.Doses, b.mes.Count(plant.KindDosing),
		l.Pieces, b.mes.Pieces("PACKER"), l.Serials, b.mes.Count(plant.KindSerial), b.mes.Delivered(), b.mes.Duplicates())
	if wrong := differences(); len(wrong) > 0 {
		t.Errorf("made and arrived differ:\n%s\n%s", strings.Join(wrong, "\n"), b.output.tail())
	}
}

func interopDifferences(b *e2eBed, scale, line *foreign) (wrong []string) {
	s, l := scale.ask("made"), line.ask("made")
	for _, c := range []struct {
		what          string
		made, arrived int64
	}{
		{"pieces of the pymodbus PLC", s.Pieces, b.mes.Pieces("MIXER")},
		{"doses", s.Doses, b.mes.Count(plant.KindDosing)},
		{"doses that wait", 0, s.Waiting},
		{"pieces of the node-opcua PLC", l.Pieces, b.mes.Pieces("PACKER")},
		{"serial numbers", l.Serials, b.mes.Count(plant.KindSerial)},
		{"serial numbers that wait", 0, l.Waiting},
	} {
		if c.made != c.arrived {
			wrong = append(wrong, fmt.Sprintf("%s: made %d, arrived %d", c.what, c.made, c.arrived))
		}
	}
	return append(wrong, b.mes.Violations()...)
}

func writeInteropConfig(t *testing.T, b *e2eBed, links map[string]*faultnet.Proxy, fingerprint string) {
	t.Helper()
	certificate, err := plantsim.NewCertificate("urn:sluice:interop:client", time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(certificate.Key)
	if err != nil {
		t.Fatal(err)
	}
	cert, key := filepath.Join(b.dir, "client.pem"), filepath.Join(b.dir, "client.key")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: certificate.DER}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	password := filepath.Join(b.dir, "password")
	if err := os.WriteFile(password, []byte("interop\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`site: {enterprise: acme, site: lisbon, area: interop, gateway: interop}
buffer: {path: %s, quota: 512 MiB, keep: 1h}
http: {listen: "127.0.0.1:0"}
uplinks:
  mqtt: {driver: mqtt, url: "tcp://%s", ack_timeout: 3s}
devices:
  scale:
    driver: modbus
    endpoint: %s
    interval: 50ms
    timeout: 1s
    word_order: CDAB
    tags:
      made: {address: "holding:0", type: uint32}
      scrap: {address: "holding:2", type: uint32}
      run: coil:0
      offer: coil:10
      ack: coil:11
      number: {address: "holding:40", type: uint32}
      grams: {address: "holding:42", type: uint32}
      component: {address: "holding:44", type: string, length: 8}
  line:
    driver: opcua
    endpoint: opc.tcp://%s
    channel: {policy: Basic256Sha256, mode: SignAndEncrypt}
    cert: %s
    key: %s
    server_sha256: "%s"
    login: {user: sluice, password: "file:%s"}
    publishing: 100ms
    tags:
      made: {node: "ns=1;s=Line.Total", type: uint32, queue: 1}
      scrap: {node: "ns=1;s=Line.Scrap", type: uint32, queue: 1}
      run: {node: "ns=1;s=Line.Running", type: bool}
      offer: {node: "ns=1;s=Serial.Trigger", type: bool}
      ack: {node: "ns=1;s=Serial.Ack", type: bool}
      serial: {node: "ns=1;s=Serial.Number", type: string}
      sku: {node: "ns=1;s=Serial.Sku", type: string}
machines:
  MIXER:
    device: scale
    counter: {total: made, scrap: {S: scrap}, max_rate: 500/s, every: 200ms}
    startstop: {running: run, min_stop: 200ms}
    dosing: {trigger: offer, ack: ack, number: number, component: {tag: component}, quantity: grams, unit: g}
  PACKER:
    device: line
    counter: {total: made, scrap: {S: scrap}, max_rate: 400/s, every: 200ms}
    startstop: {running: run, min_stop: 200ms}
    serial: {trigger: offer, ack: ack, serial: serial, sku: {tag: sku}}
`, filepath.Join(b.dir, "buffer"), links["broker"].Addr(), links["scale"].Addr(), links["line"].Addr(), cert, key, fingerprint, password)
	if err := os.WriteFile(b.config(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// foreign is a PLC in a process of another language; it obeys lines of JSON.
type foreign struct {
	t     *testing.T
	in    io.Writer
	out   *bufio.Reader
	hello struct {
		Addrs       []string
		Fingerprint string
	}
}

// foreignMade is what a foreign PLC says that it has made.
type foreignMade struct {
	Pieces, Scrap, Changes, Doses, Grams, Serials, Waiting int64
}

func startForeign(t *testing.T, name string, args ...string) *foreign {
	t.Helper()
	cmd := exec.Command(name, args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		timer := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		timer.Stop()
	})
	f := &foreign{t: t, in: in, out: bufio.NewReader(out)}
	f.read(&f.hello)
	return f
}

// read returns the next line that is JSON; libraries print others.
func (f *foreign) read(into any) {
	f.t.Helper()
	for {
		line, err := f.out.ReadBytes('\n')
		if err != nil {
			f.t.Fatalf("the foreign PLC ended: %v", err)
		}
		if line[0] == '{' && json.Unmarshal(line, into) == nil {
			return
		}
	}
}

func (f *foreign) ask(do string) foreignMade {
	f.t.Helper()
	if _, err := fmt.Fprintf(f.in, "{\"Do\": %q}\n", do); err != nil {
		f.t.Fatal(err)
	}
	var answer struct{ Made []foreignMade }
	f.read(&answer)
	return answer.Made[0]
}

// nodeScript puts the script beside the packages that make interop installed.
func nodeScript(t *testing.T, name string) string {
	t.Helper()
	folder := os.Getenv(interopFolder)
	if folder == "" {
		t.Fatalf("%s does not say where node-opcua is installed: run make interop", interopFolder)
	}
	script, err := os.ReadFile(filepath.Join("..", "..", "tools", "interop", name))
	if err != nil {
		t.Fatal(err)
	}
	local := filepath.Join(folder, name)
	if err := os.WriteFile(local, script, 0o600); err != nil {
		t.Fatal(err)
	}
	return local
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	return port
}

// startMosquitto returns the broker's address. Its subscribers get one message
// at a time, since it reorders otherwise.
func startMosquitto(t *testing.T, dir string) string {
	t.Helper()
	port := freePort(t)
	config := filepath.Join(dir, "mosquitto.conf")
	text := "listener " + port + " 127.0.0.1\nallow_anonymous true\npersistence false\nmax_inflight_messages 1\nmax_queued_messages 0\nlog_type error\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto"
	}
	cmd := exec.Command(path, "-c", config)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	return "127.0.0.1:" + port
}

// subscribe counts what mosquitto hands on.
func subscribe(t *testing.T, broker string, mes *plantsim.MES) {
	t.Helper()
	options := paho.NewClientOptions().AddBroker("tcp://" + broker).SetClientID("mes").SetCleanSession(false).SetOrderMatters(true)
	client := paho.NewClient(options)
	deadline := time.Now().Add(10 * time.Second)
	for {
		token := client.Connect()
		token.Wait()
		if token.Error() == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(token.Error())
		}
		time.Sleep(50 * time.Millisecond) // the interval of the look
	}
	t.Cleanup(func() { client.Disconnect(100) })
	token := client.Subscribe("sluice/#", 1, func(_ paho.Client, m paho.Message) { mes.Publish(m.Topic(), m.Payload()) })
	if token.Wait(); token.Error() != nil {
		t.Fatal(token.Error())
	}
}
