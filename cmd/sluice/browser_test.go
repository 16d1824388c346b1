//go:build e2e && browser

package main

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// browserVariables name what .ci/run has installed: the folder in which
// playwright-core can be found, and where a screenshot for the docs should go.
const (
	nodeFolder     = "SLUICE_NODE_FOLDER"
	screenshotFile = "SLUICE_SCREENSHOT"
	pictureFolder  = "SLUICE_PICTURES"
)

// phoneWidth is that of tools/browser/page.mjs, a usual phone held upright.
const phoneWidth = 390

// TestBrowser looks at the page as maintenance does, on a phone and without
// script: well at first, red and named when a PLC is switched off, with what
// follows from it under it, and well again when the PLC is back.
func TestBrowser(t *testing.T) {
	b := newE2EBed(t, buildSluice(t))
	cmd := b.start()
	b.firstLook()
	b.plant.do("start", -1, 0)
	phone := openPhone(t, b)

	well := phone.until(15*time.Second, "the page is never well", func(v *view) bool {
		return len(v.troubles()) == 0 && v.card("machines", "M-0").Word == "running"
	})
	if !strings.Contains(well.Sum, "machines running") || !strings.HasSuffix(well.Sum, "all devices connected; everything is delivered") {
		t.Errorf("a plant that is well is summed up as %q", well.Sum)
	}
	green := well.card("devices", "plc-0").Edge
	if d := well.card("devices", "plc-0"); d.Word != "connected" {
		t.Errorf("plc-0 is %q, want connected", d.Word)
	}
	for _, want := range []string{"Good", "Scrap", "Last event"} {
		if text := well.card("machines", "M-0").Text; !strings.Contains(text, want) {
			t.Errorf("the card of M-0 does not say %q:\n%s", want, text)
		}
	}
	if u := well.card("uplinks", "mqtt"); u.Word != "delivers" {
		t.Errorf("the uplink is %q, want delivers", u.Word)
	}

	b.plant.do("off", 1, 0)
	lost := phone.until(20*time.Second, "the lost PLC is not a problem on the page", func(v *view) bool { return len(v.troubles()) > 0 })
	if p := lost.troubles()[0]; !strings.Contains(p, "plc-1") || !strings.Contains(p, "since") || !strings.Contains(p, "M-1") {
		t.Errorf("the first problem does not name the device, since when, and the machine that misses it:\n%s", p)
	}
	if len(lost.troubles()) > 1 {
		t.Errorf("one cause is shown as several problems:\n%s", strings.Join(lost.Problems, "\n--\n"))
	}
	if !strings.Contains(lost.Sum, "1 cannot be seen; 1 device away since ") {
		t.Errorf("a plant without one PLC is summed up as %q", lost.Sum)
	}
	if m := lost.card("machines", "M-1"); m.Word != "cannot be seen: plc-1 is away" {
		t.Errorf("the machine behind the lost PLC is %q", m.Word)
	}
	if red := lost.card("devices", "plc-1"); red.Edge == green || red.Word == "connected" {
		t.Errorf("the lost device is %q with the edge %s, as the good one", red.Word, red.Edge)
	}
	if other := lost.card("devices", "plc-0"); other.Edge != green {
		t.Errorf("a device that is well changed its look: %q %s", other.Word, other.Edge)
	}
	if file := os.Getenv(screenshotFile); file != "" {
		phone.ask("shot " + file)
	}

	lookAtTheLog(t, b, phone)

	b.plant.do("on", 1, 0)
	phone.until(40*time.Second, "the page does not get well again", func(v *view) bool {
		return len(v.troubles()) == 0 && v.card("devices", "plc-1").Edge == green && v.card("machines", "M-1").Word == "running"
	})
	b.plant.do("stop", -1, 9)
	b.settle(cmd)
}

// lookAtTheLog finds what was delivered, searches it, tries the uplink, and looks
// at the dead letters, by what a finger can press.
func lookAtTheLog(t *testing.T, b *e2eBed, phone *phone) {
	t.Helper()
	v := phone.ask("visit /")
	if !slices.Contains(v.Links, "/log") || !slices.Contains(v.Links, "/dead") {
		t.Fatalf("the first page leads to %q", v.Links)
	}
	if v = phone.ask(`press nav a[href="/log"]`); len(v.Entries) == 0 || !strings.Contains(v.Entries[0], "delivered") || !strings.Contains(v.Entries[0], "mqtt · M-") {
		t.Fatalf("the log shows %q", v.Entries)
	}
	if v = phone.ask("visit /log?outcome=delivered&machine=M-0"); len(v.Entries) == 0 || strings.Contains(strings.Join(v.Entries, "\n"), "M-2") {
		t.Errorf("of M-0 the log shows %q", v.Entries)
	}
	if v = phone.ask("press form.filter button"); len(v.Entries) == 0 || !strings.Contains(v.Path, "machine=M-0") || !strings.Contains(v.Path, "outcome=delivered") {
		t.Errorf("the form forgets what it shows: %s", v.Path)
	}
	if v = phone.ask("press #test button"); !strings.Contains(v.Text, "mqtt: it works") || !strings.Contains(v.Text, "the broker has acknowledged it") {
		t.Errorf("the test says %q", v.Text)
	}
	if v = phone.ask("visit /log?outcome=test"); len(v.Entries) != 1 || !strings.Contains(v.Entries[0], "PUBLISH") {
		t.Errorf("the log shows of the test %q", v.Entries)
	}
	if folder := os.Getenv(pictureFolder); folder != "" {
		phone.ask("visit /log")
		phone.ask("picture " + filepath.Join(folder, "log.png"))
		phone.ask("visit /dead")
		phone.ask("picture " + filepath.Join(folder, "dead.png"))
		phone.ask("visit /counts")
		phone.ask("picture " + filepath.Join(folder, "counts.png"))
	}
	if v = phone.ask("visit /counts?machine=M-0"); len(v.Entries) == 0 || !strings.Contains(v.Entries[0], "it adds up") || !strings.Contains(v.Entries[0], "Accepted") {
		t.Errorf("of M-0's pieces the page says %q", v.Entries)
	}
	if v = phone.ask("visit /dead"); !strings.Contains(v.Text, "Nothing was refused") {
		t.Errorf("the dead letters are %q", v.Text)
	}
}

// view is what the phone shows.
type view struct {
	Status int
	// Path, Text, Entries and Links are of the pages behind the first one.
	Path, Text     string
	Entries, Links []string

	Sum      string
	Problems []string
	Cards    []struct{ Section, Name, Word, Edge, Text string }
	// Wide is set if something stands beyond the right edge of the screen, Width
	// wide; Smallest is the size of the smallest letters, in CSS pixels.
	Wide     bool
	Width    int
	Smallest float64
	Scripts  int
	// Foreign are requests to other hosts, Complaints what the browser says.
	Foreign, Complaints []string
	Error               string
}

// troubles are the problems of the plant: what the page says of the disk of the
// computer that the tests run on is true, and none of theirs.
func (v *view) troubles() []string {
	return slices.DeleteFunc(slices.Clone(v.Problems), func(p string) bool { return strings.HasPrefix(p, "The disk of the buffer") })
}

type card struct{ Word, Edge, Text string }

func (v *view) card(section, name string) card {
	for _, c := range v.Cards {
		if c.Section == section && c.Name == name {
			return card{c.Word, c.Edge, c.Text}
		}
	}
	return card{}
}

// phone is a browser in another process.
type phone struct {
	t   *testing.T
	in  io.Writer
	out *bufio.Reader
}

func openPhone(t *testing.T, b *e2eBed) *phone {
	t.Helper()
	folder := os.Getenv(nodeFolder)
	if folder == "" {
		t.Fatalf("%s does not say where playwright-core is installed: run make browser", nodeFolder)
	}
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile(filepath.Join("..", "..", "tools", "browser", "page.mjs"))
	if err != nil {
		t.Fatal(err)
	}
	// Node looks for modules from the script's folder upwards.
	local := filepath.Join(folder, "page.mjs")
	if err := os.WriteFile(local, script, 0o600); err != nil {
		t.Fatal(err)
	}
	var url string
	b.until(10*time.Second, "the gateway has no page", func() bool {
		found := pageAddress.FindStringSubmatch(b.output.tail())
		if found != nil {
			url = found[1]
		}
		return found != nil
	})
	cmd := exec.Command("node", local, url, chromium)
	cmd.Stderr = os.Stderr
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
		_ = cmd.Wait()
	})
	return &phone{t: t, in: in, out: bufio.NewReader(out)}
}

// ask loads the page anew. What must hold at every look is checked here.
func (p *phone) ask(command string) *view {
	p.t.Helper()
	if _, err := io.WriteString(p.in, command+"\n"); err != nil {
		p.t.Fatal(err)
	}
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		p.t.Fatalf("the browser ended: %v", err)
	}
	var v view
	if err := json.Unmarshal(line, &v); err != nil {
		p.t.Fatal(err)
	}
	if v.Error != "" || v.Status != 200 || v.Wide || v.Width != phoneWidth || v.Smallest < 14 || v.Scripts > 0 || len(v.Foreign) > 0 || len(v.Complaints) > 0 {
		p.t.Fatalf("the page does not load as it should: %s", line)
	}
	return &v
}

func (p *phone) until(d time.Duration, what string, done func(*view) bool) *view {
	p.t.Helper()
	deadline := time.Now().Add(d)
	for {
		v := p.ask("look")
		if done(v) {
			return v
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%v are over: %s\nproblems: %q\ncards: %+v", d, what, v.Problems, v.Cards)
		}
		time.Sleep(200 * time.Millisecond) // the interval of the look
	}
}
