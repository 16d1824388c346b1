package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/plantsim"
)

// startModbus returns a device with 4711 at holding:0 as the whole config has it,
// and 12.5 at holding:10 with its low word first.
func startModbus(t *testing.T) *plantsim.Modbus {
	t.Helper()
	m, err := plantsim.NewModbus("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Stop() })
	m.Update(func(b *plantsim.Bank) {
		b.SetHolding(0, 0, 4711)
		b.SetHolding(10, 0, 0x4148)
		b.SetCoil(3, true)
	})
	return m
}

func startOPCUA(t *testing.T, o plantsim.OPCUAOptions) *plantsim.OPCUA {
	t.Helper()
	o.Addr = "127.0.0.1:0"
	s, err := plantsim.NewOPCUA(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	s.Update(func(n *plantsim.Nodes) {
		n.Set("FillerDB.Count.Total", uint32(4711))
		n.Set("FillerDB.Count.Bad", uint32(12))
		n.Set("FillerDB.Running", true)
		n.Set("FillerDB.Order", "ORD-1")
		n.Set("ScaleDB.Weight", float32(12.5))
		n.Set("ScaleDB.Offer", false)
		n.Set("ScaleDB.Ack", false)
	})
	return s
}

// command runs a command line and returns what it wrote and its exit code.
func command(ctx context.Context, args ...string) (out, talk string, code int) {
	var o, e bytes.Buffer
	code = run(ctx, args, &o, &e)
	return o.String(), e.String(), code
}

// contains looks for parts of a text; how wide the columns are does not matter.
func contains(t *testing.T, what, text string, want ...string) {
	t.Helper()
	narrow := strings.Join(strings.Fields(text), " ")
	for _, w := range want {
		if !strings.Contains(narrow, strings.Join(strings.Fields(w), " ")) {
			t.Errorf("%s: %q is missing in\n%s", what, w, text)
		}
	}
}

// Addresses that are in no config: the value, and for a number every type and
// word order, with the one that looks like a value marked.
func TestReadModbusAdHoc(t *testing.T) {
	m := startModbus(t)
	out, talk, code := command(t.Context(), "read", "--modbus", m.Addr(), "holding:10", "coil:3")
	contains(t, "ad hoc", out, "holding:10", "coil:3", "true", "good", "registers as they came: 0000 4148",
		"ABCD  big           float32  2.3418e-41", "CDAB  word_swapped  float32  12.5 *", "CDAB  word_swapped  uint32   1095237632")
	if code != 0 || talk != "" {
		t.Errorf("%d, %q\n%s", code, talk, out)
	}
	if strings.Contains(lineOf(out, "2.3418e-41"), "*") {
		t.Errorf("a denormal is called plausible:\n%s", out)
	}
	out, _, code = command(t.Context(), "read", "--modbus", m.Addr(), "--type", "uint32", "--json", "holding:0")
	var got []readTag
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 {
		t.Fatal(err, code, out)
	}
	if len(got) != 1 || got[0].Value != 4711.0 || got[0].Quality != "good" || got[0].Raw != "00001267" || len(got[0].Meanings) == 0 || got[0].At == nil {
		t.Errorf("%+v", got)
	}
}

func lineOf(text, part string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			return line
		}
	}
	return ""
}

// Wrong words end with 2 and say what to write, devices and tags that cannot be
// read with 1 and what to look at.
func TestReadWrong(t *testing.T) {
	m := startModbus(t)
	gone := startModbus(t)
	if err := gone.Stop(); err != nil {
		t.Fatal(err)
	}
	file := writeConfig(t, `site: {enterprise: acme, site: lisbon, area: packing, gateway: gw-1}
buffer: {path: `+t.TempDir()+`}
devices:
  press-plc: {driver: modbus, endpoint: "`+m.Addr()+`", tags: {made: {address: "holding:0", type: uint32}, run: coil:3}}
  away-plc: {driver: modbus, endpoint: "`+gone.Addr()+`", timeout: 300ms, tags: {bad: holding:0}}
machines: {PRESS-01: {device: press-plc, counter: {total: made, max_rate: 20/s}}, AWAY-01: {device: away-plc, parameters: {B: bad}}}
uplinks: {broker: {driver: mqtt, url: "tcp://127.0.0.1:1883"}}
`)
	for _, x := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"read", "-c", file, "pres-plc"}, 2, "did you mean `press-plc`?"},
		{[]string{"read", "-c", file, "press-plc/mode"}, 2, "did you mean `made`?"},
		{[]string{"read", "-c", file, "made"}, 2, "did you mean press-plc/made?"},
		{[]string{"read", "opc.tcp://127.0.0.1:4840"}, 2, "sluice read --opcua opc.tcp://127.0.0.1:4840 'ns=2;s=…'"},
		{[]string{"read", "--modbus", m.Addr()}, 2, "name the addresses"},
		{[]string{"read", "--modbus", m.Addr(), "holdng:1"}, 2, "holdng:1"},
		{[]string{"read", "--modbus", m.Addr(), "--opcua", "opc.tcp://127.0.0.1:1", "x"}, 2, "can't be used together"},
		{[]string{"read", "-c", file, "away-plc"}, 1, "nothing listens at this port"},
	} {
		out, talk, code := command(t.Context(), x.args...)
		if code != x.code || !strings.Contains(talk, x.want) {
			t.Errorf("%q: %d\n%s%s\nwant %d, %q", x.args, code, out, talk, x.code, x.want)
		}
	}
	out, _, code := command(t.Context(), "read", "-c", file, "press-plc/run", "press-plc/made")
	contains(t, "two tags", out, "press-plc/made", "4711", "press-plc/run", "true", "0000 1267", "uint32  4711")
	if code != 0 || strings.Contains(out, "away") {
		t.Errorf("%d\n%s", code, out)
	}
}

// An OPC UA server: quality, the three times, and what is not there.
func TestReadOPCUA(t *testing.T) {
	s := startOPCUA(t, plantsim.OPCUAOptions{})
	out, talk, code := command(t.Context(), "read", "--opcua", "opc.tcp://"+s.Addr(), "--json", "ns=2;s=FillerDB.Order", "ns=2;s=Nowhere")
	var got []readTag
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err, out, talk)
	}
	if code != exitFailed || len(got) != 2 || got[0].Value != "ORD-1" || got[0].Source == nil || got[0].Quality != "good" || got[1].Quality != "bad" || got[1].Cause == "" || got[1].Value != nil {
		t.Errorf("%d %+v", code, got)
	}
	if first := got[0]; first.Source == nil || first.Server == nil || first.At == nil || first.Server.Before(*first.Source) || first.Server.After(*first.At) {
		t.Errorf("times %v, %v, %v: want the source's, then the server's, then ours", first.Source, first.Server, first.At)
	}
}

// watching is an output that somebody looks at while it is written.
type watching struct {
	mu   sync.Mutex
	text strings.Builder
}

func (w *watching) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(b)
}

func (w *watching) until(t *testing.T, part string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		w.mu.Lock()
		text := w.text.String()
		w.mu.Unlock()
		if strings.Contains(text, part) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q never came:\n%s", part, text)
		}
	}
}

// Watching prints what changes, also over an absence of the device.
func TestReadWatch(t *testing.T) {
	m := startModbus(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out, talk watching
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, []string{"read", "--modbus", m.Addr(), "--watch", "holding:1"}, &out, &talk) }()
	out.until(t, "4711")
	m.Update(func(b *plantsim.Bank) { b.SetHolding(1, 4712) })
	out.until(t, "4712")
	if err := m.Stop(); err != nil {
		t.Fatal(err)
	}
	talk.until(t, "does not answer")
	m.Update(func(b *plantsim.Bank) { b.SetHolding(1, 4713) })
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	out.until(t, "4713")
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// Devices are asked for each tag, for what may be written, and for their clocks.
func TestCheckOnlineAsksDevices(t *testing.T) {
	s := startOPCUA(t, plantsim.OPCUAOptions{ReadOnly: []string{"ScaleDB.Ack"}})
	m := startModbus(t)
	file := writeConfig(t, `site: {enterprise: acme, site: lisbon, area: packing, gateway: gw-1}
buffer: {path: `+t.TempDir()+`}
devices:
  filler-plc:
    driver: opcua
    endpoint: opc.tcp://`+s.Addr()+`
    tags: {made: {node: "ns=2;s=FillerDB.Count.Total", type: uint32}, run: {node: "ns=2;s=FillerDB.Running", type: uint16}, gone: "ns=2;s=FillerDB.Gone",
      weight: {node: "ns=2;s=ScaleDB.Weight", type: float32, unit: kg}, offer: {node: "ns=2;s=ScaleDB.Offer", type: bool}, ack: {node: "ns=2;s=ScaleDB.Ack", type: bool}}
  press-plc: {driver: modbus, endpoint: "`+m.Addr()+`", tags: {offer: coil:3, kept: coil:4, grams: {address: "holding:0", type: uint32, unit: g}}}
machines:
  FILLER-01: {device: filler-plc, counter: {total: made, max_rate: 20/s}, dosing: {trigger: offer, ack: ack, component: SUGAR, quantity: weight}}
  PRESS-01: {device: press-plc, dosing: {trigger: offer, ack: kept, component: SUGAR, quantity: grams}}
uplinks: {broker: {driver: mqtt, url: "tcp://127.0.0.1:1"}}
`)
	out, talk, code := command(t.Context(), "check", "--online", "-c", file)
	contains(t, "online", out, "  ok     tag made: is 4711 (uint32, ", "  RED    tag gone: cannot be read", "  RED    tag run: cannot be read",
		"  ok     tag weight: is 12.5 kg (float32", "  RED    write ack: cannot be written for FILLER-01: the server lets this user only read it", "  ok     clock: differs by ",
		"  amber  address: 6 tags have ns=2, which is "+plantsim.OPCUANamespace+" now", "write 'nsu="+plantsim.OPCUANamespace+";' instead of 'ns=2;' in the config",
		"  ok     tag grams: is 4711 g", "  amber  write kept: is written for PRESS-01")
	if code != exitFailed || !strings.Contains(talk, "must be mended") {
		t.Errorf("%d %s", code, talk)
	}
}

// Devices on one line are read, watched and checked over that one line, with the
// registers of what was named.
func TestLookAtALine(t *testing.T) {
	m := startModbus(t)
	m.Update(func(b *plantsim.Bank) { b.Of(2).SetHolding(0, 0, 4712) })
	file := writeConfig(t, `site: {enterprise: acme, site: lisbon, area: packing, gateway: gw-1}
buffer: {path: `+t.TempDir()+`}
lines: {box: {endpoint: "`+m.Addr()+`", framing: tcp}}
devices:
  one: {driver: modbus, line: box, unit: 1, tags: {made: {address: "holding:0", type: uint32}}}
  two: {driver: modbus, line: box, unit: 2, tags: {made: {address: "holding:0", type: uint32}}}
machines: {M-1: {device: one, counter: {total: made, max_rate: 20/s}}, M-2: {device: two, counter: {total: made, max_rate: 20/s}}}
uplinks: {broker: {driver: mqtt, url: "tcp://127.0.0.1:1"}}
`)
	out, talk, code := command(t.Context(), "read", "-c", file, "one/made", "two/made")
	contains(t, "a line", out, "one/made 4711 good", "two/made 4712 good", "one/made, registers as they came: 0000 1267", "two/made, registers as they came: 0000 1268")
	if code != 0 || talk != "" {
		t.Errorf("%d, %s\n%s", code, talk, out)
	}
	out, _, _ = command(t.Context(), "check", "--online", "-c", file)
	contains(t, "check", out, "device one: ", "ok tag made: is 4711", "device two: ", "ok tag made: is 4712")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var both, said watching
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, []string{"read", "-c", file, "--watch"}, &both, &said) }()
	both.until(t, "4711")
	both.until(t, "4712")
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// A server with security that no config has: nothing weaker than was asked for is
// tried, its certificate is taken once a person has trusted it for the gateway or
// for this call, and what to type is said to the letter.
func TestLookAtASecuredServer(t *testing.T) {
	config, _, c := trustingPlant(t, "")
	s := startOPCUA(t, plantsim.OPCUAOptions{Certificate: c, Users: map[string]string{"look": "s3cret"}})
	url, other := "opc.tcp://"+s.Addr(), strings.Repeat("ab", 32)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SLUICE_LOOK", "s3cret")
	t.Setenv("SLUICE_LOOK_WRONG", "wrong-s3cret")
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	t.Chdir(t.TempDir())
	read := []string{"read", "--opcua", url, "ns=2;s=FillerDB.Order"}
	login := []string{"--user", "look", "--password", "file:" + password}
	secured := append([]string{"--channel", "Basic256Sha256"}, login...)
	for _, x := range []struct {
		args []string
		code int
		want string
	}{
		{nil, 1, ""},
		{[]string{"--channel", "None"}, 1, ""},
		{login, 2, "write --channel Basic256Sha256"},
		{[]string{"--trust", other}, 2, "write --channel Basic256Sha256"},
		{[]string{"--channel", "Basic256"}, 2, "`Basic256` is no security policy"},
		{[]string{"--channel", "Basic256Sha256/Encrypt"}, 2, "`Encrypt` is no message security mode"},
		{[]string{"--channel", "Basic256Sha256", "--user", "look"}, 2, "look has no password"},
		{[]string{"--channel", "Basic256Sha256", "--user", "look", "--password", "s3cret"}, 2, "write --password env:NAME"},
		{[]string{"--channel", "Basic256Sha256", "--user", "look", "--password", "env:SLUICE_NOWHERE"}, 2, "SLUICE_NOWHERE is not set"},
		{append([]string{"--trust", "abcd"}, secured...), 2, "write the 64 hexadecimal digits"},
		{append([]string{"--trust", other}, secured...), 1, "its SHA-256 is " + c.SHA256() + ", --trust is " + other},
		{secured, 1, "then: --trust " + c.SHA256() + " for this call alone"},
		{append([]string{"-c", config}, secured...), 1, "then: sluice trust add -c " + config + " " + c.SHA256() + ", or --trust " + c.SHA256() + " for this call alone"},
		{[]string{"--channel", "Aes256_Sha256_RsaPss", "--trust", c.SHA256()}, 1, "the server does not offer Aes256_Sha256_RsaPss/SignAndEncrypt"},
		{[]string{"--channel", "Basic256Sha256", "--trust", c.SHA256()}, 1, "does not take this login"},
		{[]string{"--channel", "Basic256Sha256", "--trust", c.SHA256(), "--user", "look", "--password", "env:SLUICE_LOOK_WRONG"}, 1, "does not take this login: check --user and --password, or that the server trusts --user-cert"},
		{append([]string{"--trust", c.SHA256()}, secured...), 0, "a certificate that is made for this call alone"},
		{[]string{"--channel", "Basic256Sha256/Sign", "--trust", c.SHA256(), "--user", "look", "--password", "env:SLUICE_LOOK"}, 0, ""},
	} {
		out, talk, code := command(t.Context(), append(append([]string{}, read...), x.args...)...)
		if code != x.code || !strings.Contains(talk, x.want) || strings.Contains(out, "ORD-1") != (code == 0) || strings.Contains(talk, "s3cret") {
			t.Errorf("%q: %d\n%s%s\nwant %d, %q", x.args, code, out, talk, x.code, x.want)
		}
	}
	// What the refusal says is typed as it stands.
	works(t, "trust", "add", "-c", config, c.SHA256())
	if out, talk, code := command(t.Context(), append(append(read, "-c", config), secured...)...); code != 0 || talk != "" || !strings.Contains(out, "ORD-1") {
		t.Errorf("trusted: %d, %s%s", code, out, talk)
	}
	if out, talk, code := command(t.Context(), append([]string{"browse", url, "-c", config}, secured...)...); code != 0 || talk != "" || !strings.Contains(out, "ORD-1") {
		t.Errorf("browse: %d, %s%s", code, out, talk)
	}
	if _, talk, code := command(t.Context(), "browse", url, "--channel", "Basic256Sha256"); code != 1 || !strings.Contains(talk, "--trust "+c.SHA256()) {
		t.Errorf("browse, not trusted: %d, %s", code, talk)
	}
	for _, args := range [][]string{{"read", "-c", config, "filler", "--channel", "None"}, {"browse", "-c", config, "filler", "--trust", other}, {"read", "--modbus", "127.0.0.1:1", "holding:1", "--user", "a"}} {
		if _, talk, code := command(t.Context(), args...); code != 2 || !strings.Contains(talk, "are for an OPC UA server by its URL") {
			t.Errorf("%q: %d, %s", args, code, talk)
		}
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A server on the network is read without security if nobody asks for any, and
// that is said.
func TestLookWithoutSecuritySaysSo(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, talk, code := command(ctx, "browse", "opc.tcp://192.0.2.1:4840") // TEST-NET-1: nobody
	if code != 1 || !strings.Contains(talk, "without security: anybody on the network can read") || strings.Contains(talk, "nothing says how") {
		t.Errorf("%d, %s", code, talk)
	}
}
