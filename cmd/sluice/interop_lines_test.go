//go:build e2e && interop

package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/plant"
)

// TestInteropLines reads units on three lines that nobody here wrote: pymodbus
// behind a device server (RTU over TCP), the same behind a serial port (socat's
// pseudo terminal), and modbus-serial as a gateway box (Modbus TCP); beside them a
// device of our own that misbehaves in every way. They are frozen, killed and
// started again. No tag ever has another one's value, good units stay good beside
// dead ones, and all come back.
func TestInteropLines(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join("..", "..", "tools", "interop", "line_pymodbus.py")
	server := startForeign(t, "/usr/bin/python3", script, freePort(t), "1", "2", "3")
	serial := startForeign(t, "/usr/bin/python3", script, freePort(t), "1", "2")
	box := startForeign(t, "node", nodeScript(t, "box_modbusserial.mjs"), freePort(t), "1", "2")
	rude := startRude(t)
	port := startSocat(t, filepath.Join(dir, "tty"), serial.hello.Addr)

	config := filepath.Join(dir, "sluice.yaml")
	text := fmt.Sprintf(`site: {enterprise: acme, site: lisbon, area: lines, gateway: lines}
buffer: {path: %s}
uplinks: {out: {driver: mqtt, url: "tcp://127.0.0.1:1883"}}
lines:
  server: {endpoint: "%s"}
  tty: {port: %s, baud: 115200, parity: none}
  box: {endpoint: "%s", framing: tcp}
  rude: {endpoint: "%s"}
devices:
`, dir, server.hello.Addr, port, box.hello.Addr, rude.Addr())
	dead := map[string]bool{"server-9": true, "tty-9": true, "box-9": true}
	for _, line := range []struct {
		name  string
		units []int
	}{{"server", []int{1, 2, 3, 9}}, {"tty", []int{1, 2, 9}}, {"box", []int{1, 2, 9}}, {"rude", []int{1, 2}}} {
		for _, u := range line.units {
			text += fmt.Sprintf("  %s-%d: {driver: modbus, line: %[1]s, unit: %d, interval: 50ms, timeout: 300ms, tags: {t10: \"holding:10\", t60: \"holding:60\", t110: \"input:110\", t160: 40161, t11: \"%%MW11\"}}\n", line.name, u, u)
		}
	}
	text += "machines: {M: {device: server-1, parameters: {a: t10}}}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, faults := loadPlan(config, driverKinds, uplinkKinds)
	if errs := faults.Errors(); len(errs) > 0 {
		t.Fatal(errs)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	books := make(map[string]*lineBook)
	lines := p.openLines(zap.NewNop())
	for _, d := range p.Devices {
		book := &lineBook{t: t, unit: d.Plan.Unit}
		o := d.Plan.PollerOptions(d.Name)
		o.MinBackoff, o.MaxBackoff = 50*time.Millisecond, time.Second
		book.poller = drivers.NewPoller(o, d.Plan.Open(drivers.Env{Name: d.Name, Log: zap.NewNop(), Line: lines[d.Plan.Line]}), []drivers.Sink{book}, zap.NewNop())
		books[string(d.Name)] = book
		running.Go(func() { _ = book.poller.Run(ctx) })
	}
	goesOn := func(what string) {
		t.Helper()
		before := make(map[string]uint64)
		for name, b := range books {
			before[name] = b.good.Load()
		}
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			var missing []string
			for name, b := range books {
				if !dead[name] && b.good.Load() < before[name]+5 {
					missing = append(missing, name+": "+b.poller.Stats().LastError)
				}
			}
			if len(missing) == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: it does not go on: %s", what, strings.Join(missing, "\n"))
			}
		}
	}
	goesOn("the start")
	for _, f := range []*foreign{server, serial, box} {
		f.freeze()
		time.Sleep(700 * time.Millisecond) // the fault must last: two time-outs and a bit
		f.thaw()
		goesOn("a frozen server")
	}
	server.kill()
	server.start()
	goesOn("a device server that was killed")
	box.kill()
	box.start()
	goesOn("a gateway box that was killed")
	for name, b := range books {
		s := b.poller.Stats()
		t.Logf("%-9s %6d good readings, %4d polls, %3d sessions, %s", name, b.good.Load(), s.Reads, s.Session, s.LastError)
		if dead[name] && (b.good.Load() > 0 || s.LastError == "" && len(s.BadTags) == 0) {
			t.Errorf("%s is dead and has %d good readings; the cause is %q", name, b.good.Load(), s.LastError)
		}
	}
	t.Logf("the rude device did each of its %d faults %d times", len(rudeness), rude.times.Load()/int64(len(rudeness)))
}

// lineBook holds what a unit says against what it has: its own registers.
type lineBook struct {
	t      *testing.T
	unit   int
	poller *drivers.Poller
	good   atomic.Uint64
	wrong  atomic.Uint64
}

// Offer implements drivers.Sink.
func (b *lineBook) Offer(in plant.Input) {
	s, ok := in.(plant.Scan)
	if !ok {
		return
	}
	for _, r := range s.Readings {
		if r.Quality != plant.Good {
			continue
		}
		var n int
		if _, err := fmt.Sscanf(string(r.Tag), "t%d", &n); err != nil {
			b.t.Error(err)
		}
		if want := plant.UintValue(uint64(1000*b.unit + n)); r.Value != want && b.wrong.Add(1) < 5 {
			b.t.Errorf("unit %d of %s: %s = %v, want %v", b.unit, s.Device, r.Tag, r.Value, want)
		}
		b.good.Add(1)
	}
}

// startSocat makes a serial port of a device server and returns its name.
func startSocat(t *testing.T, link, target string) string {
	t.Helper()
	cmd := exec.Command("socat", "pty,rawer,link="+link, "tcp:"+target)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for deadline := time.Now().Add(foreignPatience); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(link); err == nil {
			return link
		}
		if time.Now().After(deadline) {
			t.Fatal("socat made no port")
		}
	}
}

// rude is a device of ours that misbehaves at every fourth request, in turn.
type rude struct {
	net.Listener
	times atomic.Int64
}

// rudeness are the ways to misbehave, each with the right answer at hand. What is
// late is sent by the connection's own goroutine, so it comes in the order of the
// requests, as from a wire.
var rudeness = []struct {
	name string
	do   func(c net.Conn, request, right []byte)
}{
	{"late, in time", func(c net.Conn, _, right []byte) { after(150*time.Millisecond, c, right) }},
	{"too late", func(c net.Conn, _, right []byte) { after(450*time.Millisecond, c, right) }},
	{"much too late", func(c net.Conn, _, right []byte) { after(800*time.Millisecond, c, right) }},
	{"short", func(c net.Conn, _, right []byte) { _, _ = c.Write(right[:len(right)-3]) }},
	{"long", func(c net.Conn, _, right []byte) { _, _ = c.Write(append(right, 0, 0, 0)) }},
	{"split", func(c net.Conn, _, right []byte) {
		_, _ = c.Write(right[:3])
		after(60*time.Millisecond, c, right[3:])
	}},
	{"wrong id", func(c net.Conn, _, right []byte) {
		right[0]++
		_, _ = c.Write(summed(right))
	}},
	{"wrong function", func(c net.Conn, _, right []byte) {
		right[1] ^= 7
		_, _ = c.Write(summed(right))
	}},
	{"garbage", func(c net.Conn, _, right []byte) {
		for i := range right {
			right[i] = byte(37 * i)
		}
		_, _ = c.Write(right)
	}},
	{"silent", func(net.Conn, []byte, []byte) {}},
	{"one byte after the other", func(c net.Conn, _, right []byte) {
		for _, b := range right {
			after(20*time.Millisecond, c, []byte{b})
		}
	}},
	{"an exception", func(c net.Conn, request, _ []byte) {
		_, _ = c.Write(summed([]byte{request[0], request[1] | 0x80, 6, 0, 0}))
	}},
	{"hangs up", func(c net.Conn, _, _ []byte) { c.Close() }},
}

func after(d time.Duration, c net.Conn, b []byte) {
	<-time.After(d) // a device's pace
	_, _ = c.Write(b)
}

// summed sets the check sum at the end of a frame.
func summed(f []byte) []byte {
	sum := uint16(0xFFFF)
	for _, c := range f[:len(f)-2] {
		sum ^= uint16(c)
		for range 8 {
			if sum&1 != 0 {
				sum = sum>>1 ^ 0xA001
			} else {
				sum >>= 1
			}
		}
	}
	binary.LittleEndian.PutUint16(f[len(f)-2:], sum)
	return f
}

func startRude(t *testing.T) *rude {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	r := &rude{Listener: l}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go r.serve(c)
		}
	}()
	return r
}

func (r *rude) Addr() string { return r.Listener.Addr().String() }

func (r *rude) serve(c net.Conn) {
	defer c.Close()
	for request := make([]byte, 8); ; {
		if _, err := io.ReadFull(c, request); err != nil {
			return
		}
		start, count := int(binary.BigEndian.Uint16(request[2:])), int(binary.BigEndian.Uint16(request[4:]))
		right := []byte{request[0], request[1], byte(2 * count)}
		for i := range count {
			right = binary.BigEndian.AppendUint16(right, uint16(1000*int(request[0])+start+i))
		}
		right = summed(append(right, 0, 0))
		if n := r.times.Add(1); n%4 == 0 {
			rudeness[int(n/4)%len(rudeness)].do(c, request, right)
			continue
		}
		if _, err := c.Write(right); err != nil {
			return
		}
	}
}
