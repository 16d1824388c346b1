//go:build e2e && interop

package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/faultnet"
	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/plant"
)

// interopSeed repeats a run of TestInterop with the same order of faults.
const interopSeed = "SLUICE_INTEROP_SEED"

// TestInterop lets the built binary work between parts that nobody here wrote: a
// scale on a pymodbus server, a line on a node-opcua server over an encrypted
// channel with serial numbers, attaches and doses by handshake, mosquitto, and a
// receiver in Node that is strict and loses answers. Everything is cut, frozen,
// killed and started again, the gateway too, in an order of the seed's. In the
// end all four books agree, piece by piece and record by record.
func TestInterop(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv(interopSeed); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	b := newInteropBed(t, rand.New(rand.NewPCG(seed, 3)))
	t.Logf("repeat with %s=%d", interopSeed, seed)
	b.gateway = b.start()
	b.until(60*time.Second, "not every machine's first state has arrived", func() bool { return b.mes.Count(plant.KindStartStop) >= 2 })
	b.scale.plc("start")
	b.line.plc("start")
	b.erp.receiver("faults")

	faults := b.faults()
	b.r.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
	begin := time.Now()
	for _, f := range faults {
		t.Logf("%6.1f s  %s", time.Since(begin).Seconds(), f.name)
		b.what = f.name
		for range 2 {
			b.scale.plc("offer")
			b.line.plc("offer")
		}
		time.Sleep(time.Duration(b.r.IntN(250)) * time.Millisecond) // the fault must hit at random
		f.do()
		b.goesOn()
	}

	b.what = "the end"
	b.scale.plc("stop")
	b.line.plc("stop")
	b.erp.receiver("calm")
	b.within(90*time.Second, func() bool { return len(b.wrong()) == 0 })
	b.endInOrder()
	wrong := b.wrong()
	t.Logf("seed %d\n%s", seed, b.summary())
	if len(wrong) > 0 {
		t.Errorf("made and arrived differ:\n%s\n%s", strings.Join(wrong, "\n"), b.output.tail())
	}
	if n := b.mishaps + b.erp.receiver("made").mishaps(); n < 20 {
		t.Errorf("only %d mishaps of the receiver: too few to prove anything", n)
	}
}

// interopBed is the built binary between foreign parts.
type interopBed struct {
	*e2eBed
	r       *rand.Rand
	what    string // the fault of now, for what fails
	gateway *exec.Cmd
	scale   *foreign
	line    *foreign
	erp     *foreign
	broker  *mosquitto
	books   *interopBooks
	links   map[string]*faultnet.Proxy
	// mishaps are those of receivers that have been killed since.
	mishaps int
}

func newInteropBed(t *testing.T, r *rand.Rand) *interopBed {
	t.Helper()
	b := &interopBed{
		e2eBed: &e2eBed{t: t, dir: t.TempDir(), binary: buildSluice(t), mes: strictMES(t)}, r: r,
		books: &interopBooks{seen: map[string]bool{}, machines: map[string]interopBook{}}, links: map[string]*faultnet.Proxy{},
	}
	t.Cleanup(b.noRaces)
	folder := func(name string) string { return filepath.Join(b.dir, name) }
	b.scale = startForeign(t, "/usr/bin/python3", filepath.Join("..", "..", "tools", "interop", "plc_pymodbus.py"), freePort(t), folder("scale"))
	b.line = startForeign(t, "node", nodeScript(t, "plc_nodeopcua.mjs"), freePort(t), folder("line"))
	b.erp = startForeign(t, "node", nodeScript(t, "receiver.mjs"), freePort(t), folder("erp"), "interop-token")
	b.broker = startMosquitto(t, b.dir, func(topic string, payload []byte) {
		b.mes.Publish(topic, payload)
		b.books.take(payload)
	})
	for name, target := range map[string]string{"scale": b.scale.hello.Addr, "line": b.line.hello.Addr, "broker": b.broker.addr} {
		proxy, err := faultnet.New(target)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = proxy.Close() })
		b.links[name] = proxy
	}
	b.writeConfig()
	return b
}

// mischief is something that goes wrong while all work.
type mischief struct {
	name string
	do   func()
}

func (b *interopBed) faults() []mischief {
	return []mischief{
		{"the gateway is killed", b.killGateway},
		{"the gateway is killed again", b.killGateway},
		{"the gateway is killed once more", b.killGateway},
		{"the gateway is ended and started", func() {
			b.endInOrder()
			b.gateway = b.start()
		}},
		{"the links to the PLCs are cut", func() {
			b.links["scale"].Cut()
			b.links["line"].Cut()
		}},
		{"the link to the broker is cut", func() { b.links["broker"].Cut() }},
		{"the links to the PLCs are frozen", func() {
			b.links["line"].Stall()
			b.links["scale"].Stall()
			b.pause(500, 3000)
			b.links["line"].Pass()
			b.links["scale"].Pass()
		}},
		{"the link to the broker is frozen", func() {
			b.links["broker"].Stall()
			b.pause(500, 5000)
			b.links["broker"].Pass()
		}},
		{"the line's PLC is frozen", func() { b.freeze(b.line, 500, 4000) }},
		{"the scale's PLC is frozen", func() { b.freeze(b.scale, 500, 3000) }},
		{"the receiver is frozen", func() { b.freeze(b.erp, 500, 4000) }},
		{"the broker is frozen", func() {
			sendSignal(b.t, b.broker.cmd, syscall.SIGSTOP)
			b.pause(500, 5000)
			sendSignal(b.t, b.broker.cmd, syscall.SIGCONT)
		}},
		{"the line's PLC restarts", func() { b.restart(b.line) }},
		{"the scale's PLC restarts", func() { b.restart(b.scale) }},
		{"both PLCs restart while the gateway is away", func() {
			b.kill(b.gateway)
			b.erp.receiver("forget")
			b.restart(b.line)
			b.restart(b.scale)
			b.gateway = b.start()
		}},
		{"the line's PLC is away when the gateway starts", func() {
			b.line.kill()
			b.killGateway()
			b.pause(500, 1500)
			b.line.start()
		}},
		{"the line's PLC forgets everything", func() { b.coldStart(b.line, "line", "PACKER") }},
		{"the scale's PLC forgets everything", func() { b.coldStart(b.scale, "scale", "MIXER") }},
		{"the receiver restarts", func() {
			b.mishaps += b.erp.receiver("made").mishaps()
			b.erp.kill()
			b.erp.start()
			b.erp.receiver("faults")
		}},
		{"the receiver is busy", func() { b.erp.receiver("busy") }},
		{"the broker restarts", func() {
			b.broker.end(syscall.SIGTERM)
			b.broker.start()
			b.broker.await()
		}},
		{"the broker is killed", func() {
			b.links["broker"].Refuse()
			b.broker.fence()
			b.broker.end(syscall.SIGKILL)
			b.broker.start()
			b.broker.await()
			b.links["broker"].Pass()
		}},
	}
}

func (b *interopBed) killGateway() {
	b.kill(b.gateway)
	b.erp.receiver("forget")
	b.gateway = b.start()
}

// pause is how long a fault lasts: between from and to milliseconds.
func (b *interopBed) pause(from, to int) {
	time.Sleep(time.Duration(from+b.r.IntN(to-from)) * time.Millisecond) // the fault must last
}

func (b *interopBed) freeze(f *foreign, from, to int) {
	f.freeze()
	b.pause(from, to)
	f.thaw()
}

// restart takes a PLC's power and gives it back: it goes on where it was.
func (b *interopBed) restart(f *foreign) {
	f.kill()
	b.pause(0, 1000)
	f.start()
}

// coldStart takes the power of a PLC without retentive memory. What such a PLC
// forgets before it was read nobody can count, so it is at rest. And a counter
// that passes its old number before it is read again cannot be told from one
// that went on: it has a number to fall from, and its 0 is read first.
func (b *interopBed) coldStart(f *foreign, device, machine string) {
	b.until(60*time.Second, b.what+": too little is made", func() bool { return b.books.of(machine).Pieces > 300 })
	f.plc("stop")
	b.until(60*time.Second, b.what+": not all of the resting PLC arrives", func() bool {
		made := f.plc("made")
		return made.Waiting == 0 && made.Idle && made.Book.Pieces == b.books.of(machine).Pieces
	})
	var before uint64
	b.until(60*time.Second, b.what+": the PLC is away", func() bool { before = b.session(device); return before > 0 })
	f.kill()
	f.start("cold")
	b.until(60*time.Second, b.what+": the PLC is not read again", func() bool { return b.session(device) > before })
	f.plc("start")
	// Two power cycles, or a freeze before the first piece, are other stories.
	from := b.books.of(machine).Pieces
	b.until(60*time.Second, b.what+": the PLC's new count does not arrive", func() bool { return b.books.of(machine).Pieces > from+50 })
}

// session returns which session with the device is read; 0 for none.
func (b *interopBed) session(device string) uint64 {
	for _, d := range b.status(b.t).Devices {
		if d.Device == device && d.Connected {
			return d.Session
		}
	}
	return 0
}

// goesOn waits until every PLC has handed over a record, every link carries
// events again, and pieces are counted.
func (b *interopBed) goesOn() {
	b.t.Helper()
	b.scale.plc("offer")
	b.line.plc("offer")
	mixer, packer := b.books.of("MIXER").Pieces, b.books.of("PACKER").Pieces
	events := b.erp.receiver("made")
	b.until(60*time.Second, b.what+": it does not go on", func() bool {
		got := b.erp.receiver("made")
		return b.scale.plc("made").Waiting == 0 && b.line.plc("made").Waiting == 0 &&
			b.books.of("MIXER").Pieces > mixer && b.books.of("PACKER").Pieces > packer &&
			got.Books["/one"].Events > events.Books["/one"].Events && got.Books["/batch"].Events > events.Books["/batch"].Events
	})
}

func (b *interopBed) until(d time.Duration, what string, done func() bool) {
	b.t.Helper()
	if !b.within(d, done) {
		b.t.Fatalf("%v are over: %s\n%s\n%s\n%s\n%s", d, what, b.summary(), strings.Join(b.wrong(), "\n"), b.get("api/v1/status"), b.output.tail())
	}
}

func (b *interopBed) endInOrder() {
	b.t.Helper()
	if err := b.gateway.Process.Signal(syscall.SIGTERM); err != nil {
		b.t.Fatalf("end the gateway: %v\n%s", err, b.output.tail())
	}
	begin := time.Now()
	if err := b.gateway.Wait(); err != nil {
		b.t.Errorf("the gateway did not end in order: %v\n%s", err, b.output.tail())
	}
	if took := time.Since(begin); took > 10*time.Second {
		b.t.Errorf("SIGTERM took %v, 10 s are promised", took)
	}
	b.erp.receiver("forget")
}

// wrong is the oracle: each PLC's book against that of each receiver.
func (b *interopBed) wrong() (wrong []string) {
	got := b.erp.receiver("made")
	for machine, f := range map[string]*foreign{"MIXER": b.scale, "PACKER": b.line} {
		made := f.plc("made")
		if made.Waiting > 0 {
			wrong = append(wrong, fmt.Sprintf("%s: %d records wait at the PLC", machine, made.Waiting))
		}
		wrong = append(wrong, made.Book.differences(machine+" by mosquitto", b.books.of(machine))...)
		for path, book := range got.Books {
			wrong = append(wrong, made.Book.differences(machine+" by POST "+path, book.Machines[machine])...)
		}
	}
	for path, book := range got.Books {
		for _, text := range book.Wrong {
			wrong = append(wrong, "POST "+path+": "+text)
		}
	}
	return append(wrong, b.mes.Violations()...)
}

// differences names what is not the same in the book of a receiver.
func (made interopBook) differences(where string, got interopBook) (wrong []string) {
	if made.Pieces != got.Pieces || made.Scrap != got.Scrap {
		wrong = append(wrong, fmt.Sprintf("%s: made %d pieces of which %d scrap, arrived %d and %d", where, made.Pieces, made.Scrap, got.Pieces, got.Scrap))
	}
	for kind, list := range made.Records {
		if !slices.Equal(list, got.Records[kind]) {
			wrong = append(wrong, fmt.Sprintf("%s: %s made %d, arrived %d\n  made    %q\n  arrived %q", where, kind, len(list), len(got.Records[kind]), list, got.Records[kind]))
		}
	}
	return wrong
}

func (b *interopBed) summary() string {
	var s strings.Builder
	got := b.erp.receiver("made")
	for machine, f := range map[string]*foreign{"MIXER": b.scale, "PACKER": b.line} {
		made, mqtt, one, batch := f.plc("made").Book, b.books.of(machine), got.Books["/one"].Machines[machine], got.Books["/batch"].Machines[machine]
		fmt.Fprintf(&s, "%-6s made → mosquitto, POST, POST of batches: pieces %d → %d %d %d, scrap %d → %d %d %d", machine,
			made.Pieces, mqtt.Pieces, one.Pieces, batch.Pieces, made.Scrap, mqtt.Scrap, one.Scrap, batch.Scrap)
		for kind, list := range made.Records {
			fmt.Fprintf(&s, ", %s %d → %d %d %d", kind, len(list), len(mqtt.Records[kind]), len(one.Records[kind]), len(batch.Records[kind]))
		}
		s.WriteByte('\n')
	}
	fmt.Fprintf(&s, "%d SIGKILLs of the gateway; %d events by mosquitto; duplicates recognised: mosquitto %d, POST %d, batches %d; mishaps of the receiver: %v\n",
		b.kills, b.mes.Delivered(), b.mes.Duplicates(), got.Books["/one"].Duplicates, got.Books["/batch"].Duplicates, got.Given)
	return s.String()
}

func (b *interopBed) file(name, text string) string {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return path
}

func (b *interopBed) writeConfig() {
	b.t.Helper()
	certificate, err := plantsim.NewCertificate("urn:sluice:interop:client", time.Now().Add(-time.Hour), time.Now().Add(60*24*time.Hour))
	if err != nil {
		b.t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(certificate.Key)
	if err != nil {
		b.t.Fatal(err)
	}
	cert := b.file("client.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.DER})))
	key := b.file("client.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
	b.file("sluice.yaml", fmt.Sprintf(`site: {enterprise: acme, site: lisbon, area: interop, gateway: interop}
buffer: {path: %s, quota: 512 MiB, keep: 1h}
http: {listen: "127.0.0.1:0"}
uplinks:
  mqtt: {driver: mqtt, url: "tcp://%s", ack_timeout: 3s}
  erp: {driver: rest, url: "http://%s/one", auth: {bearer: "file:%s"}, timeout: 3s}
  warehouse: {driver: rest, url: "http://%[3]s/batch", auth: {bearer: "file:%[4]s"}, timeout: 3s, batch: 50}
devices:
  scale:
    driver: modbus
    endpoint: %[5]s
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
    endpoint: opc.tcp://%[6]s
    channel: {policy: Basic256Sha256, mode: SignAndEncrypt}
    cert: %[7]s
    key: %[8]s
    server_sha256: "%[9]s"
    login: {user: sluice, password: "file:%[10]s"}
    publishing: 100ms
    tags:
      made: {node: "ns=1;s=Line.Total", type: uint32, queue: 1}
      scrap: {node: "ns=1;s=Line.Scrap", type: uint32, queue: 1}
      run: {node: "ns=1;s=Line.Running", type: bool}
      serial_offer: {node: "ns=1;s=Serial.Trigger", type: bool}
      serial_ack: {node: "ns=1;s=Serial.Ack", type: bool}
      serial: {node: "ns=1;s=Serial.Number", type: string}
      sku: {node: "ns=1;s=Serial.Sku", type: string}
      attach_offer: {node: "ns=1;s=Attach.Trigger", type: bool}
      attach_ack: {node: "ns=1;s=Attach.Ack", type: bool}
      parent: {node: "ns=1;s=Attach.Parent", type: string}
      item: {node: "ns=1;s=Attach.Item", type: string}
      dose: {node: "ns=1;s=Dose.Number", type: uint32}
      echo: {node: "ns=1;s=Dose.Echo", type: uint32}
      component: {node: "ns=1;s=Dose.Component", type: string}
      grams: {node: "ns=1;s=Dose.Grams", type: uint32}
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
    serial: {trigger: serial_offer, ack: serial_ack, serial: serial, sku: {tag: sku}}
    item_attach: {trigger: attach_offer, ack: attach_ack, serial: parent, item: {sku: PUMP-3, serial: item}}
    dosing: {trigger: dose, ack: echo, protocol: sequence, component: {tag: component}, quantity: grams, unit: g}
`, filepath.Join(b.dir, "buffer"), b.links["broker"].Addr(), b.erp.hello.Addr, b.file("token", "interop-token\n"),
		b.links["scale"].Addr(), b.links["line"].Addr(), cert, key, b.line.hello.Fingerprint, b.file("password", "interop\n")))
}
