//go:build e2e && interop

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// interopFolder is where make interop has installed the npm packages.
const interopFolder = "SLUICE_INTEROP_FOLDER"

// foreignPatience is how long a foreign process may take to start or to answer.
const foreignPatience = time.Minute

// foreign is a process of another language, which obeys lines of JSON. It keeps
// its port over a restart.
type foreign struct {
	t    *testing.T
	name string
	args []string

	cmd   *exec.Cmd
	in    io.WriteCloser
	pipe  *os.File
	out   *bufio.Reader
	hello struct{ Addr, Fingerprint string }
}

// startForeign starts a process and waits for its greeting.
func startForeign(t *testing.T, name string, args ...string) *foreign {
	t.Helper()
	f := &foreign{t: t, name: name, args: args}
	f.start()
	t.Cleanup(f.kill)
	return f
}

func (f *foreign) start(more ...string) {
	f.t.Helper()
	f.cmd = exec.Command(f.name, append(f.args[:len(f.args):len(f.args)], more...)...)
	f.cmd.Stderr = os.Stderr
	in, err := f.cmd.StdinPipe()
	if err != nil {
		f.t.Fatal(err)
	}
	out, pipe, err := os.Pipe()
	if err != nil {
		f.t.Fatal(err)
	}
	f.cmd.Stdout = pipe
	err = f.cmd.Start()
	_ = pipe.Close()
	if err != nil {
		f.t.Fatal(err)
	}
	f.in, f.pipe, f.out = in, out, bufio.NewReader(out)
	f.read(&f.hello)
}

// kill ends the process at once (SIGKILL).
func (f *foreign) kill() {
	if f.cmd == nil {
		return
	}
	_ = f.cmd.Process.Kill()
	_ = f.cmd.Wait()
	_ = f.pipe.Close()
	f.cmd = nil
}

// freeze stops the process in the middle of what it does, thaw lets it go on.
func (f *foreign) freeze() { sendSignal(f.t, f.cmd, syscall.SIGSTOP) }
func (f *foreign) thaw()   { sendSignal(f.t, f.cmd, syscall.SIGCONT) }

func sendSignal(t *testing.T, cmd *exec.Cmd, s syscall.Signal) {
	t.Helper()
	if err := cmd.Process.Signal(s); err != nil {
		t.Fatalf("%s: %v", cmd.Path, err)
	}
}

// read returns the next line that is JSON; libraries print others.
func (f *foreign) read(into any) {
	f.t.Helper()
	_ = f.pipe.SetReadDeadline(time.Now().Add(foreignPatience))
	for {
		line, err := f.out.ReadBytes('\n')
		if err != nil {
			f.t.Fatalf("%v says nothing: %v", f.args, err)
		}
		if line[0] == '{' && json.Unmarshal(line, into) == nil {
			return
		}
	}
}

// tell gives a command and reads the answer.
func (f *foreign) tell(do string, answer any) {
	f.t.Helper()
	if _, err := fmt.Fprintf(f.in, "{\"Do\": %q}\n", do); err != nil {
		f.t.Fatalf("%v: %v", f.args, err)
	}
	f.read(answer)
}

// madeBy is what a PLC says that it has made.
type madeBy struct {
	Book    interopBook
	Waiting int  // records that the gateway has not acknowledged
	Idle    bool // no acknowledgement is up
}

func (f *foreign) plc(do string) (made madeBy) {
	f.t.Helper()
	f.tell(do, &made)
	return made
}

// received is what the receiver says that has arrived.
type received struct {
	Books map[string]struct {
		Machines           map[string]interopBook
		Wrong              []string
		Duplicates, Events int
	}
	// Given counts the mishaps.
	Given map[string]int
}

func (r received) mishaps() (n int) {
	for _, times := range r.Given {
		n += times
	}
	return n
}

func (f *foreign) receiver(do string) (got received) {
	f.t.Helper()
	f.tell(do, &got)
	return got
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

// mosquitto is the broker with the one subscriber that counts. Its subscribers
// get one message at a time, since it reorders otherwise. What it has promised
// is on its disk when it is ended in order; what a SIGKILL takes from it is its
// own (docs/ARCHITECTURE.md: a PUBACK is the broker's word), so fence comes first.
type mosquitto struct {
	t    *testing.T
	addr string
	conf string
	take func(topic string, payload []byte)

	cmd        *exec.Cmd
	client     paho.Client
	subscribed chan struct{}
	fences     chan string
}

const fenceTopic = "fence"

func startMosquitto(t *testing.T, dir string, take func(topic string, payload []byte)) *mosquitto {
	t.Helper()
	port := freePort(t)
	m := &mosquitto{
		t: t, addr: "127.0.0.1:" + port, conf: filepath.Join(dir, "mosquitto.conf"), take: take,
		subscribed: make(chan struct{}, 1), fences: make(chan string, 1),
	}
	text := "listener " + port + " 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location " + dir + "/\n" +
		"max_inflight_messages 1\nmax_queued_messages 0\nlog_type error\nuser root\n"
	if err := os.WriteFile(m.conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m.start()
	t.Cleanup(func() {
		_ = m.cmd.Process.Kill()
		_ = m.cmd.Wait()
	})
	m.subscribe()
	return m
}

func (m *mosquitto) start() {
	m.t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto"
	}
	m.cmd = exec.Command(path, "-c", m.conf)
	m.cmd.Stderr = os.Stderr
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
}

func (m *mosquitto) end(s syscall.Signal) {
	m.t.Helper()
	sendSignal(m.t, m.cmd, s)
	_ = m.cmd.Wait()
}

// subscribe connects the subscriber, which from then on connects by itself.
func (m *mosquitto) subscribe() {
	m.t.Helper()
	o := paho.NewClientOptions().AddBroker("tcp://" + m.addr).SetClientID("mes").SetCleanSession(false).SetOrderMatters(true).
		SetConnectRetry(true).SetConnectRetryInterval(50 * time.Millisecond).SetMaxReconnectInterval(200 * time.Millisecond)
	o.SetDefaultPublishHandler(func(_ paho.Client, message paho.Message) {
		if message.Topic() != fenceTopic {
			m.take(message.Topic(), message.Payload())
			return
		}
		select {
		case m.fences <- string(message.Payload()):
		default: // of a fence that nobody waits for any more
		}
	})
	o.SetOnConnectHandler(func(c paho.Client) {
		token := c.SubscribeMultiple(map[string]byte{"sluice/#": 1, fenceTopic: 1}, nil)
		go func() {
			if token.Wait() && token.Error() == nil {
				select {
				case m.subscribed <- struct{}{}:
				default:
				}
			}
		}()
	})
	m.client = paho.NewClient(o)
	m.client.Connect()
	m.t.Cleanup(func() { m.client.Disconnect(100) })
	m.await()
}

// await waits until the subscriber is there again.
func (m *mosquitto) await() {
	m.t.Helper()
	select {
	case <-m.subscribed:
	case <-time.After(foreignPatience):
		m.t.Fatal("the subscriber does not get through to mosquitto")
	}
}

// fence returns when all that mosquitto has taken so far is at the subscriber:
// it queues for a subscriber in the order in which it took.
func (m *mosquitto) fence() {
	m.t.Helper()
	mark := fmt.Sprint(time.Now().UnixNano())
	token := m.client.Publish(fenceTopic, 1, false, mark)
	timeout := time.After(foreignPatience)
	for {
		select {
		case got := <-m.fences:
			if got == mark {
				return
			}
		case <-timeout:
			m.t.Fatalf("mosquitto does not hand on what it has taken (%v)", token.Error())
		}
	}
}

// interopBook is what was made, or what has arrived, of one machine.
type interopBook struct {
	Pieces, Scrap int64
	Records       map[string][]string
}

// interopBooks adds up what the subscriber gets.
type interopBooks struct {
	mu       sync.Mutex
	seen     map[string]bool
	machines map[string]interopBook
}

// take books an event, once.
func (b *interopBooks) take(payload []byte) {
	var e struct {
		ID, Source, Subject, Type string
		Data                      struct {
			GoodDelta int64 `json:"good_delta"`
			Scrap     []struct{ Delta int64 }
			Dose      string
			Component string
			Quantity  json.Number
			Serial    string
			SKU       string
			Item      struct{ Serial string }
		}
	}
	if json.Unmarshal(payload, &e) != nil || e.ID == "" {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seen[e.Source+" "+e.ID] {
		return
	}
	b.seen[e.Source+" "+e.ID] = true
	book, known := b.machines[e.Subject]
	if !known {
		book.Records = map[string][]string{}
	}
	d := &e.Data
	switch kind := e.Type; kind {
	case "dev.sluice.counter.v1":
		book.Pieces += d.GoodDelta
		for _, s := range d.Scrap {
			book.Pieces += s.Delta
			book.Scrap += s.Delta
		}
	case "dev.sluice.dosing.v1":
		book.Records["dosing"] = append(book.Records["dosing"], d.Dose+" "+d.Component+" "+d.Quantity.String())
	case "dev.sluice.serial.v1":
		book.Records["serial"] = append(book.Records["serial"], d.Serial+" "+d.SKU)
	case "dev.sluice.item_attach.v1":
		book.Records["item_attach"] = append(book.Records["item_attach"], d.Serial+" "+d.Item.Serial)
	}
	b.machines[e.Subject] = book
}

// of returns a copy of a machine's book.
func (b *interopBooks) of(machine string) interopBook {
	b.mu.Lock()
	defer b.mu.Unlock()
	book := b.machines[machine]
	records := map[string][]string{}
	for kind, list := range book.Records {
		records[kind] = list[:len(list):len(list)]
	}
	book.Records = records
	return book
}
