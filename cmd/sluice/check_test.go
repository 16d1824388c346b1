package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/internal/kind"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// check runs the command on a file and returns what it wrote and its exit code.
func check(t *testing.T, c checkCmd) (out, talk string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	err := c.Run(t.Context(), &console{Out: &o, Err: &e, Log: zap.NewNop()})
	var exit *exitError
	switch {
	case errors.As(err, &exit):
		code = exit.code
	case err != nil:
		t.Fatal(err)
	}
	return o.String(), e.String(), code
}

func TestCheckGood(t *testing.T) {
	file := filepath.Join("..", "..", "config", "testdata", "minimal.good.yaml")
	out, talk, code := check(t, checkCmd{configFlag: configFlag{Config: file}})
	if want := file + " is good: 1 device with 5 tags, 1 machine, 1 uplink; 0 faults, 0 warnings\n"; code != 0 || out != "" || talk != want {
		t.Errorf("got %d, %q, %q", code, out, talk)
	}
	out, _, code = check(t, checkCmd{configFlag: configFlag{Config: file}, JSON: true})
	if want := `{"ok":true,"file":"` + filepath.ToSlash(file) + `","faults":[]}` + "\n"; code != 0 || strings.ReplaceAll(out, `\\`, "/") != want {
		t.Errorf("got %d, %q", code, out)
	}
}

func TestCheckBad(t *testing.T) {
	file := filepath.Join("..", "..", "config", "testdata", "several.bad.yaml")
	out, talk, code := check(t, checkCmd{configFlag: configFlag{Config: file}})
	if lines := strings.Count(out, "\n"); code != exitUsage || lines != 5 || !strings.HasPrefix(out, file+":") {
		t.Errorf("got %d, %q", code, out)
	}
	if want := file + ": 5 faults, 0 warnings\n"; talk != want {
		t.Errorf("got %q", talk)
	}
	out, _, code = check(t, checkCmd{configFlag: configFlag{Config: file}, JSON: true})
	var report checkReport
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatal(err)
	}
	if code != exitUsage || report.OK || len(report.Faults) != 5 || report.Faults[0].Line == 0 || report.Faults[0].Path != "site" || report.Faults[0].Remedy == "" {
		t.Errorf("got %d, %+v", code, report)
	}
}

func TestCheckMissing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "none.yaml")
	out, _, code := check(t, checkCmd{configFlag: configFlag{Config: file}})
	if want := file + ":1:1: the config cannot be read: no such file or directory — check the path, or name another file with --config\n"; code != exitUsage || out != want {
		t.Errorf("got %d, %q", code, out)
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, os.ErrClosed }

// Faults that could not be printed must not look like a good config.
func TestCheckCannotPrint(t *testing.T) {
	file := filepath.Join("..", "..", "config", "testdata", "several.bad.yaml")
	for _, c := range []checkCmd{{configFlag: configFlag{Config: file}}, {configFlag: configFlag{File: file}, JSON: true}} {
		err := c.Run(t.Context(), &console{Out: brokenPipe{}, Err: &bytes.Buffer{}, Log: zap.NewNop()})
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("got %v", err)
		}
	}
}

func TestConfigPath(t *testing.T) {
	t.Chdir(t.TempDir())
	system := filepath.Join(t.TempDir(), "sluice.yaml")
	look := func(f configFlag, want string) {
		t.Helper()
		if got := f.path(system); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	look(configFlag{Config: "a.yaml"}, "a.yaml")
	look(configFlag{File: "b.yaml"}, "b.yaml")
	look(configFlag{}, "")
	if err := os.WriteFile("sluice.yaml", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	look(configFlag{}, "sluice.yaml")
	if err := os.WriteFile(system, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	look(configFlag{}, system)
}

// Who names no config is told both places where one is looked for.
func TestCheckNowhere(t *testing.T) {
	if _, err := os.Stat(systemConfig); err == nil {
		t.Skip("this computer has a gateway's config")
	}
	t.Chdir(t.TempDir())
	out, _, code := check(t, checkCmd{})
	if want := "sluice.yaml:1:1: there is no config: neither /etc/sluice/sluice.yaml nor ./sluice.yaml is there — write one there, or name another file with --config\n"; code != exitUsage || out != want {
		t.Errorf("got %d, %q", code, out)
	}
}

// What is missing is named in one run, and nothing that follows from it.
func TestLoadPlanEmpty(t *testing.T) {
	_, faults := loadPlan(writeConfig(t, "site: {enterprise: acme, site: lisbon, area: packing}\n"), driverKinds, uplinkKinds)
	if len(faults) != 3 {
		t.Errorf("got %v", faults)
	}
	_, faults = loadPlan(writeConfig(t, "site: {enterprise: acme, site: lisbon, area: packing}\n"+plantText[strings.Index(plantText, "machines:"):strings.Index(plantText, "uplinks:")]), driverKinds, uplinkKinds)
	if len(faults) != 2 || !strings.Contains(faults[0].Problem, "no devices") || !strings.Contains(faults[1].Problem, "no uplinks") {
		t.Errorf("got %v", faults)
	}
}

// A file that could not be read to its end may hold more faults, and what it
// holds is not said to be missing.
func TestCheckUnread(t *testing.T) {
	file := writeConfig(t, strings.Replace(plantText, "machines:", "  broken: [\nmachines:", 1))
	_, talk, code := check(t, checkCmd{configFlag: configFlag{File: file}})
	if want := file + ": 1 fault, 0 warnings; the rest of " + file + " was not read: mend this first\n"; code != exitUsage || talk != want {
		t.Errorf("got %d, %q", code, talk)
	}
	devices, rest, _ := strings.Cut(plantText, "machines:")
	folder := t.TempDir()
	for name, text := range map[string]string{"devices.yaml": devices + "  broken: [\n", "machines.yaml": "site: {enterprise: acme, site: lisbon, area: packing}\nmachines:" + strings.Replace(rest, "driver: mqtt", "driver: mqtt, url: tcp://127.0.0.1", 1) + "devices: {other: {driver: modbus, endpoint: plc, tags: {a: 40001}}}\n"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, _, _ := check(t, checkCmd{configFlag: configFlag{File: folder}})
	if strings.Count(out, "\n") != 1 || !strings.Contains(out, "not valid YAML") {
		t.Errorf("got %q", out)
	}
}

// A secret that only the service has is a warning for who checks the config,
// and a fault for who starts the gateway.
func TestSecretsOfTheService(t *testing.T) {
	file := filepath.Join("..", "..", "config", "testdata", "secret-at-start.good.yaml")
	if out, _, code := check(t, checkCmd{configFlag: configFlag{File: file}}); code != 0 || strings.Count(out, "warning:") != 3 {
		t.Errorf("check: got %d, %q", code, out)
	}
	var talk bytes.Buffer
	err := (&runCmd{configFlag{File: file}}).Run(t.Context(), &console{Out: &talk, Err: &talk})
	var exit *exitError
	if !errors.As(err, &exit) || exit.code != exitUsage || strings.Count(talk.String(), "\n") != 3 || strings.Contains(talk.String(), "warning") {
		t.Errorf("run: got %v, %q", err, talk.String())
	}
}

// The README's config is good as it stands, on a computer without its password.
func TestReadmeConfigWithoutItsPassword(t *testing.T) {
	text := fences(readPage(t, filepath.Join("..", "..", "README.md")))
	i := slices.IndexFunc(text, fence.whole)
	if i < 0 {
		t.Fatal("the README has no config")
	}
	out, _, code := check(t, checkCmd{configFlag: configFlag{File: writeConfig(t, text[i].text)}})
	if code != 0 || strings.Count(out, "\n") != 1 || !strings.Contains(out, "warning: uplinks.broker.password: the environment variable BROKER_PASSWORD is not set") {
		t.Errorf("got %d, %q", code, out)
	}
}

// What people try first works.
func TestHelpAndVersion(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"help", "Usage: sluice <command>"}, {"--help", "Usage: sluice <command>"}, {"help check", "Usage: sluice check"},
		{"--version", "sluice " + version + " "}, {"version", "sluice " + version + " "},
	} {
		var out, talk bytes.Buffer
		if code := run(t.Context(), strings.Fields(c.args), &out, &talk); code != 0 || !strings.HasPrefix(out.String(), c.want) {
			t.Errorf("%s: got %d, %q, %q", c.args, code, out.String(), talk.String())
		}
	}
	if got, want := (buildInfo{Version: "v1", Go: "go1", Platform: "linux/arm64"}).String(), "sluice v1 go1 linux/arm64"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// sieve is an uplink that carries some kinds of events only.
func sieve(carried ...plant.EventKind) kind.Registry[uplink.Plan] {
	type options struct{}
	return kind.NewRegistry(kind.NewKind("mqtt", func() options { return options{} }, func(string, options) (uplink.Plan, error) {
		return uplink.Plan{Carries: func(k plant.EventKind) bool { return slices.Contains(carried, k) }}, nil
	}))
}

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sluice.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// plantText has its machine on line 6 and its uplinks last, for tests to add to.
const plantText = `site: {enterprise: acme, site: lisbon, area: packing, gateway: gw-1}
devices:
  press-plc: {driver: modbus, endpoint: 10.0.0.7, tags: {made: {address: "holding:0", type: uint32}, run: "coil:0"}}
  filler-plc: {driver: modbus, endpoint: 10.0.0.8, tags: {made: {address: "holding:0", type: uint32}}}
machines:
  PRESS-01: {device: press-plc, counter: {total: made, max_rate: 20/s}}
  FILLER-01: {device: filler-plc, counter: {total: made, max_rate: 20/s}, startstop: {running: press-plc/run}}
uplinks:
  a: {driver: mqtt}
`

func TestLoadPlan(t *testing.T) {
	kinds := sieve(plant.KindCounter, plant.KindCorrection, plant.KindStartStop, plant.KindAlarm, plant.KindGap, plant.KindOrder, plant.KindMode, plant.KindObserved)
	p, faults := loadPlan(writeConfig(t, plantText), driverKinds, kinds)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if p.Config.Site.Gateway != "gw-1" || len(p.Devices) != 2 || len(p.Machines) != 2 || len(p.Uplinks) != 1 || p.Uplinks[0].Name != "a" {
		t.Fatalf("got %+v", p)
	}
	if d := p.Devices[1]; d.Name != "filler-plc" || d.Plan.Open == nil || len(d.Plan.Tags) != 1 || d.Plan.Endpoint != "10.0.0.8:502" {
		t.Errorf("got %+v", d)
	}
	if m := p.Machines[1]; m.Machine() != "FILLER-01" || len(m.Tags()) != 2 || !slices.Contains(m.Tags(), plant.TagRef{Device: "press-plc", Tag: "run"}) {
		t.Errorf("got %+v", m)
	}
}

// A signal that its device is looked at too seldom to show is a warning, where
// the machine names it.
func TestPulsesTooFastForThePolls(t *testing.T) {
	text := `site: {enterprise: acme, site: lisbon, area: packing, gateway: gw-1}
devices:
  press-plc: {driver: modbus, endpoint: 10.0.0.7, interval: 300ms, tags: {cycle: holding:7.2}}
machines:
  PRESS-01: {device: press-plc, counter: {pulses: cycle, max_rate: 2/s}}
uplinks:
  a: {driver: mqtt}
`
	file := writeConfig(t, text)
	p, faults := loadPlan(file, driverKinds, sieve(plant.EventKinds()...))
	want := ":5:51: warning: machines.PRESS-01.counter.pulses: tag press-plc/cycle is looked at every 300ms, which misses pulses at 2/s — look every 250ms or more often; better, let the PLC count and name its total"
	if len(faults) != 1 || strings.TrimPrefix(faults[0].String(), file) != want || len(p.Machines) != 1 {
		t.Errorf("got %v", faults)
	}
}

// Order and counters are asked for together when the order changes, of devices
// that can give both in one request. Of the others the config is warned, and the order
// alone is read again, where it could be asked for at all.
func TestOrderAndCountersInOneRequest(t *testing.T) {
	p, faults := loadPlan(filepath.Join("..", "..", "config", "testdata", "order-read-apart.good.yaml"), driverKinds, uplinkKinds)
	want := []string{
		"machines.HOLE.order: the order and what counts cannot be read in one request when the order changes: between tag order and tag made are 36 registers that nobody asked for, max_gap allows 8",
		"machines.LONG.order: the order and what counts cannot be read in one request when the order changes: with tag made the record is 130 registers long, one request may ask for 125",
		"machines.TABLES.order: the order and what counts cannot be read in one request when the order changes: tag made is in the input table, but order of the same record in the holding table: they cannot be read in one request",
		"machines.DEVICES.order: the order (near-plc/order) and what counts (other-plc/made) are on different devices, so no request reads both when the order changes",
	}
	var got []string
	for _, f := range faults {
		if !f.Warning {
			t.Error(f)
		}
		got = append(got, f.Path+": "+f.Problem)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	asked := p.records("near-plc")
	fields := map[plant.RecordID][]plant.TagID{"TOGETHER/order": {"order", "made"}, "DEVICES/order": {"order"}}
	if len(p.Rereads) != len(fields) || len(asked) != len(fields) {
		t.Errorf("asked for %+v", asked)
	}
	for _, rec := range asked {
		if rec.On != plant.OnChange || !slices.Equal(rec.Fields, fields[rec.ID]) {
			t.Errorf("asked for %+v", rec)
		}
	}
}

// A kind of event that goes nowhere is named once, at the first machine that
// makes it; it does not stop the gateway.
func TestLoadPlanNotCarried(t *testing.T) {
	file := writeConfig(t, plantText)
	_, faults := loadPlan(file, driverKinds, sieve(plant.KindCounter, plant.KindCorrection, plant.KindAlarm, plant.KindGap, plant.KindMode, plant.KindObserved))
	if len(faults.Errors()) > 0 {
		t.Fatal(faults)
	}
	var got []string
	for _, f := range faults {
		got = append(got, strings.TrimPrefix(f.String(), file))
	}
	const remedy = "they stay on this computer until the buffer drops them; let an uplink carry them"
	want := []string{
		":6:13: warning: machines.PRESS-01: no uplink carries its events of the kind `order` — " + remedy,
		":7:14: warning: machines.FILLER-01: no uplink carries its events of the kind `startstop` — " + remedy,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Two uplinks to one place tell each event twice, unless they share the kinds
// out between them.
func TestLoadPlanToldTwice(t *testing.T) {
	for name, c := range map[string]struct {
		uplinks string
		warned  bool
	}{
		"rest copied":         {`{a: {driver: rest, url: "https://mes/events"}, b: {driver: rest, url: "https://mes/events", batch: 10}}`, true},
		"another path":        {`{a: {driver: rest, url: "https://mes/events"}, b: {driver: rest, url: "https://mes/doses"}}`, false},
		"kinds shared out":    {`{a: {driver: rest, url: "https://mes/events", kinds: [counter]}, b: {driver: rest, url: "https://mes/events", kinds: [startstop]}}`, false},
		"mqtt copied":         {`{a: {driver: mqtt, url: "tls://mes"}, b: {driver: mqtt, url: "tls://mes:8883"}}`, true},
		"mqtt, another topic": {`{a: {driver: mqtt, url: "tls://mes"}, b: {driver: mqtt, url: "tls://mes", topic: "other/{machine}/{kind}"}}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(plantText, "uplinks:\n  a: {driver: mqtt}\n", "uplinks: "+c.uplinks+"\n", 1)
			_, faults := loadPlan(writeConfig(t, text), driverKinds, uplinkKinds)
			if errs := faults.Errors(); len(errs) > 0 {
				t.Fatal(errs)
			}
			warned := false
			for _, f := range faults {
				warned = warned || f.Path == "uplinks.b" && strings.Contains(f.Problem, "where uplink a goes already")
			}
			if warned != c.warned {
				t.Errorf("warned %v, want %v: %v", warned, c.warned, faults)
			}
		})
	}
}

// A device with faults makes no faults of the machines that use it, and hides
// none that they have themselves.
func TestLoadPlanNoConsequences(t *testing.T) {
	for name, c := range map[string]struct{ from, to, want string }{
		"bad endpoint":       {"endpoint: 10.0.0.7,", "endpoint: 10.0.0.7:0,", "devices.press-plc.endpoint"},
		"unknown driver":     {"driver: modbus, endpoint: 10.0.0.7,", "driver: modbsu, endpoint: 10.0.0.7,", "devices.press-plc.driver"},
		"no driver":          {"driver: modbus, endpoint: 10.0.0.7,", "endpoint: 10.0.0.7,", "devices.press-plc"},
		"no keys":            {`{driver: modbus, endpoint: 10.0.0.7, tags: {made: {address: "holding:0", type: uint32}, run: "coil:0"}}`, "5", "devices.press-plc"},
		"missing table":      {`{made: {address: "holding:0", type: uint32}, run: "coil:0"}`, "none.csv", "devices.press-plc.tags"},
		"and a machine":      {"endpoint: 10.0.0.7, tags: {made:", "endpoint: 10.0.0.7:0, tags: {mode:", "devices.press-plc.endpoint machines.PRESS-01.counter.total"},
		"only the machine":   {"total: made", "total: mode", "machines.PRESS-01.counter.total"},
		"unknown uplink":     {"driver: mqtt", "driver: mttq", "uplinks.a.driver"},
		"no uplinks":         {"uplinks:\n  a: {driver: mqtt}\n", "", ""},
		"misspelt section":   {"uplinks:", "uplink:", ""},
		"site is incomplete": {"area: packing, ", "", "site"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(plantText, c.from, c.to, 1)
			if text == plantText {
				t.Fatal("nothing was replaced")
			}
			_, faults := loadPlan(writeConfig(t, text), driverKinds, sieve())
			var got []string
			for _, f := range faults {
				got = append(got, f.Path)
			}
			if strings.Join(got, " ") != c.want || len(faults) == 0 {
				t.Errorf("got %v, want a fault of %q", faults, c.want)
			}
		})
	}
}

// No kind at all is a fault of the config, not a crash.
func TestLoadPlanNoKinds(t *testing.T) {
	_, faults := loadPlan(writeConfig(t, plantText), kind.Registry[drivers.Plan]{}, kind.Registry[uplink.Plan]{})
	if len(faults.Errors()) != 3 || !strings.Contains(faults[0].String(), "unknown driver `modbus` — there is none to choose from") {
		t.Errorf("got %v", faults)
	}
}

// An uplink that takes orders of one source only is told which machines have
// another one, with both words, or none; who hands orders says the source itself.
func TestLoadPlanOrderSource(t *testing.T) {
	const text = `site: {enterprise: acme, site: lisbon, area: packing, gateway: packing-1}
devices:
  plc: {driver: modbus, endpoint: 10.0.0.7, tags: {made: {address: "holding:0", type: uint32}, order: {address: "holding:10", type: string, length: 8}}}
machines:
  ST-1: {device: plc, order: {tag: order, source: sap-porto}, counter: {total: made, max_rate: 20/s}, operation: {method: counter, every: 100, routing_operation: TEST, work_center: WC-1}}
  ST-2: {device: plc, order: order, counter: {total: made, max_rate: 20/s}, operation: {method: counter, every: 100, routing_operation: TEST, work_center: WC-1}}
  ST-3: {device: plc, counter: {total: made, max_rate: 20/s}, operation: {method: counter, every: 100, routing_operation: TEST, work_center: WC-1}}
  RIGHT: {device: plc, order: {tag: order, source: SAP-PORTO}, counter: {total: made, max_rate: 20/s}, operation: {method: counter, every: 100, routing_operation: TEST, work_center: WC-1}}
  HANDED: {device: plc, order: {owner: api}, counter: {total: made, max_rate: 20/s}, operation: {method: counter, every: 100, routing_operation: TEST, work_center: WC-1}}
  COUNTED: {device: plc, order: order, counter: {total: made, max_rate: 20/s}}
uplinks:
  mes: {driver: mqtt, url: "tcp://mes.example:1883"}
  erp: {driver: nextplus, work_order_source: SAP-PORTO, operation: "https://erp.example/operation", machines: MACHINES}
`
	for machines, want := range map[string]string{
		`["*"]`:      "ST-1 says `sap-porto`, ST-2 says no `source:`, ST-3 has no `order:`: their events are passed over until their order is from `SAP-PORTO`",
		`["ST-1"]`:   "no machine's order has the source `SAP-PORTO`; ST-1 says `sap-porto`: their events are passed over until their order is from `SAP-PORTO`",
		`["RIGHT"]`:  "",
		`["HANDED"]`: "",
	} {
		_, faults := loadPlan(writeConfig(t, strings.Replace(text, "MACHINES", machines, 1)), driverKinds, uplinkKinds)
		got := ""
		for _, f := range faults {
			if !f.Warning {
				t.Error(f)
			}
			if f.Path == "uplinks.erp.work_order_source" {
				got += f.Problem
			}
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", machines, got, want)
		}
	}
}
