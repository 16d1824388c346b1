package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

const good = `# The whole envelope.
site: {enterprise: acme, site: lisbon, area: packing, timezone: Europe/Lisbon, gateway: gw-1}
buffer: {path: data, quota: 1 GiB, keep: 3d, reserve: 128 MiB, linger: 5ms}
http: {listen: "[::1]:0"}
devices:
  press: {driver: modbus, endpoint: 10.0.0.7:502}
  007: {driver: modbus}
machines:
  PRESS-01: {device: press}
uplinks:
  broker: {driver: mqtt}
`

// load writes files into a folder and loads it, or its only file.
func load(t *testing.T, files map[string]string) (*Config, []string) {
	t.Helper()
	dir := t.TempDir()
	path := dir
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if len(files) == 1 && name == "sluice.yaml" {
			path = file
		}
	}
	c, faults := Load(path)
	var got []string
	for _, f := range faults {
		got = append(got, strings.ReplaceAll(strings.ReplaceAll(f.String(), dir+string(filepath.Separator), ""), dir, "DIR"))
	}
	return c, got
}

func names(sections []*Section) string {
	var out []string
	for _, s := range sections {
		out = append(out, s.Name+"("+s.Driver+")")
	}
	return strings.Join(out, " ")
}

func TestLoad(t *testing.T) {
	for name, text := range map[string]string{"plain": good, "BOM and CRLF": "\ufeff" + strings.ReplaceAll(good, "\n", "\r\n"), "document marks": "---\n" + good + "...\n"} {
		t.Run(name, func(t *testing.T) {
			c, faults := load(t, map[string]string{"sluice.yaml": text})
			same(t, faults, nil)
			if want := (Site{Enterprise: "acme", Site: "lisbon", Area: "packing", Timezone: "Europe/Lisbon", Gateway: "gw-1"}); !reflect.DeepEqual(c.Site, want) {
				t.Errorf("site %+v", c.Site)
			}
			if c.Site.Path() != "/acme/lisbon/packing" || c.Site.Location().String() != "Europe/Lisbon" {
				t.Errorf("path %s, zone %s", c.Site.Path(), c.Site.Location())
			}
			if b := c.Buffer; filepath.Base(string(b.Path)) != "data" || !filepath.IsAbs(string(b.Path)) || b.Quota != 1<<30 || b.Keep.Std() != 72*time.Hour || b.Reserve != 128<<20 || b.Linger.Std() != 5*time.Millisecond {
				t.Errorf("buffer %+v", b)
			}
			if c.HTTP.Listen != "[::1]:0" {
				t.Errorf("http %+v", c.HTTP)
			}
			if got := names(c.Devices) + " " + names(c.Machines) + " " + names(c.Uplinks); got != "press(modbus) 007(modbus) PRESS-01() broker(mqtt)" {
				t.Errorf("sections %s", got)
			}
			var press struct {
				Endpoint string `yaml:"endpoint,required"`
			}
			same(t, messages(c.Devices[0].Decode(&press)), nil)
			if press.Endpoint != "10.0.0.7:502" {
				t.Errorf("got %+v", press)
			}
		})
	}
}

func TestLoadDefaults(t *testing.T) {
	c, faults := load(t, map[string]string{"sluice.yaml": "site: {enterprise: a, site: b, area: c}\n"})
	same(t, faults, nil)
	if b := c.Buffer; b.Path != "/var/lib/sluice" || b.Quota != 2<<30 || b.Keep.Std() != 168*time.Hour || b.Reserve != 64<<20 || b.Linger.Std() != 2*time.Millisecond {
		t.Errorf("buffer %+v", b)
	}
	if c.HTTP.Listen != "127.0.0.1:8080" || c.Site.Gateway == "" || unusable(c.Site.Gateway) != "" || c.Site.Location() != time.UTC || c.Log.Size != 64<<20 || c.Log.Keep.Std() != 720*time.Hour {
		t.Errorf("%+v %+v %+v", c.HTTP, c.Site, c.Log)
	}
}

func TestLoadFragments(t *testing.T) {
	c, faults := load(t, map[string]string{
		"10-site.yaml":   "site: {enterprise: a, site: b, area: c}\ndevices: {one: {driver: modbus}}\n",
		"20-press.yaml":  "devices: {two: {driver: modbus}}\nmachines: {M2: {device: two}}\n",
		"30-uplink.yaml": "uplinks: {broker: {driver: mqtt}}\n",
		"notes.txt":      "not: [read",
		".hidden.yaml":   "not: [read",
	})
	same(t, faults, nil)
	if got := names(c.Devices) + " " + names(c.Machines) + " " + names(c.Uplinks); got != "one(modbus) two(modbus) M2() broker(mqtt)" {
		t.Errorf("sections %s", got)
	}
	_, faults = load(t, map[string]string{
		"a.yaml": "site: {enterprise: a, site: b, area: c}\ndevices:\n  one: {driver: modbus}\n",
		"b.yaml": "devices:\n  one: {driver: modbus}\nsite: {enterprise: a, site: b, area: c}\n",
		"c.yaml": "machines: {",
		"d.yml":  "uplinks: {}",
	})
	same(t, faults, []string{
		"b.yaml:2:3: devices.one: is here twice, first in a.yaml:3:3 — remove or rename one of the two",
		"b.yaml:3:1: site: is here twice, first in a.yaml:1:1 — remove or rename one of the two",
		"c.yaml:1:11: not valid YAML: could not find flow mapping end token '}' — check the indentation, quotes and brackets here and on the line before",
		"d.yml:1:1: warning: the file is not read — rename it to end in .yaml",
	})
	_, faults = load(t, map[string]string{"notes.txt": "", "more.txt": ""})
	same(t, faults, []string{"DIR:1:1: the folder holds no *.yaml file — put the config there, or name another with --config"})
}

func TestLoadUnreadable(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "none.yaml")
	c, faults := Load(missing)
	if c == nil {
		t.Fatal("no config")
	}
	same(t, messages(faults), []string{missing + ":1:1: the config cannot be read: no such file or directory — check the path, or name another file with --config"})
	huge := filepath.Join(dir, "huge.yaml")
	if err := os.WriteFile(huge, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(huge, maxFile+1); err != nil {
		t.Fatal(err)
	}
	_, faults = Load(huge)
	same(t, messages(faults), []string{huge + ":1:1: the file is larger than 16 MiB — split it into a folder of fragments, or move tables into CSV files"})
}

// The envelope's faults; each file has a good site unless it says otherwise.
func TestLoadFaults(t *testing.T) {
	const site = "site: {enterprise: a, site: b, area: c}\n"
	const syntax = "check the indentation, quotes and brackets here and on the line before"
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "1:1: the file is empty — start from the example: site, devices, machines, uplinks"},
		{"comments only", "# nothing\n\n---\n# here\n", "1:1: the file is empty — start from the example: site, devices, machines, uplinks"},
		{"a list", "- a\n", "1:1: a list where keys are expected — write `key: value` lines"},
		{"a word", "hello\n", "1:1: `hello` where keys are expected — write `key: value` lines"},
		{"no site", "devices: {}\n", "1:1: the section `site` is missing — add site: {enterprise: …, site: …, area: …}, the names that events carry"},
		{"two documents", site + "---\na: 1\n", "2:1: a second YAML document — keep one document a file; a folder of *.yaml files may hold fragments"},
		{"documents after the end mark", site + "...\na: 1\n", "3:1: a second YAML document — keep one document a file; a folder of *.yaml files may hold fragments"},
		{"tabs", "site:\n\tarea: x\n\tsite: y\n", "1:1: site: required key `enterprise` is missing — add `enterprise:`\n2:1: a tab indents this line (and 1 more) — indent by spaces"},
		{"unclosed", site + "devices: [1,\n", "2:10: not valid YAML: sequence end token ']' not found — " + syntax},
		{"quote", site + "devices: \"x\n", "2:10: not valid YAML: could not find end character of double-quoted text — " + syntax},
		{"indent", "site:\n  area: a\n   site: b\n", "2:9: not valid YAML: mapping value is not allowed in this context — give keys of one level the same indentation, and quote a value that holds `: `"},
		{"anchor", site + "devices: &d {}\nmachines: *d\n", "2:10: an anchor (`&`) — write the value where it is used, or put tables in a CSV file; quote the text if the & belongs to it\n" +
			"3:11: an alias (`*`) — write the value out; quote the text if the * belongs to it"},
		{"merge", site + "devices: {<<: {}}\n", "2:11: a merge key (`<<`) — write the keys out"},
		{"tag", site + "devices: !!map {}\n", "2:10: a YAML tag (`!!map`) — remove it; quote the text if the ! belongs to it"},
		{"directive", "%YAML 1.2\n---\n" + site, "1:1: a YAML directive (`%`) — remove the line; quote the text if the % belongs to it"},
		{"UTF-16", "\xff\xfes\x00", "1:1: the file is UTF-16 — save it as UTF-8"},
		{"latin1", "# ä\n# m\xe4de\n", "2:4: the byte 0xe4 is not UTF-8 — save the file as UTF-8"},
		{"NUL", "site: \x00", "1:7: a NUL byte — the file is damaged or no text; restore it from a copy"},
		{"control", "site: a\x1b[0m", "1:8: the control character U+001B — remove it"},
		{"brackets", "a: " + strings.Repeat("[", 100000), "1:68: brackets are nested more than 64 deep — check that each bracket is closed"},
		{"dashes", strings.Repeat("- ", 100000), "1:1: the line is indented by more than 256 columns — indent each level by two spaces"},
		{"question marks", strings.Repeat("? ", 100000) + "a", "1:1: the line is indented by more than 256 columns — indent each level by two spaces"},
		{"key twice", site + "http: {}\nhttp: {}\n", "3:1: the key `http` is here twice, first on line 2 — remove or rename one of the two"},
		{"key of a list", site + "? [a]\n: b\n", "3:1: not valid YAML: found an invalid key for this map — " + syntax},
		{"no key", site + "devices: {\"\": x}\n", "2:11: devices: a key is missing or is no plain text — write `name: value`"},
		{"unknown section", site + "device: {}\n", "2:1: unknown key `device` — did you mean `devices`?"},
		{"unknown site key", "site: {enterprise: a, site: b, aera: c}\n", "1:32: site: unknown key `aera` — did you mean `area`?"},
		{"site is no mapping", "site: lisbon\n", "1:7: site: `lisbon` where a mapping of keys is expected — write keys, for example {enterprise: …}; there are `enterprise`, `site`, `area`, `timezone`, `shifts`, `gateway`"},
		{"names", "site: {enterprise: a/b, site: \"\", area: \"c#\", gateway: _gateway}\n",
			"1:20: site.enterprise: the name holds '/', which ids, topics or paths use otherwise — use letters, digits, - _ . and, inside of it, spaces\n" +
				"1:31: site.site: the name is empty — use letters, digits, - _ . and, inside of it, spaces\n" +
				"1:41: site.area: the name holds '#', which ids, topics or paths use otherwise — use letters, digits, - _ . and, inside of it, spaces\n" +
				"1:56: site.gateway: the name begins with `_`, which is reserved — use letters, digits, - _ . and, inside of it, spaces"},
		{"timezone", "site: {enterprise: a, site: b, area: c, timezone: Lisbon}\n", "1:51: site.timezone: unknown time zone `Lisbon` — did you mean Europe/Lisbon?"},
		{"local timezone", "site: {enterprise: a, site: b, area: c, timezone: Local}\n", "1:51: site.timezone: unknown time zone `Local` — write an IANA name, for example Europe/Lisbon"},
		{"buffer", site + "buffer: {quota: 1 MiB, reserve: 1 MiB, linger: 5s, keep: 7}\n",
			"2:17: buffer.quota: 1 MiB is too little room for the store — write at least 64 MiB\n" +
				"2:33: buffer.reserve: 1 MiB is too little to stop before the disk is full — write at least 32 MiB\n" +
				"2:48: buffer.linger: 5s would hold every event back — write at most 20ms; 2ms is usual\n" +
				"2:58: buffer.keep: `7` is no duration — write a number and a unit, for example 250ms, 5s, 2h or 7d"},
		{"buffer bounds", site + "buffer: {quota: 1 MiB, reserve: 1 MiB, linger: 5s}\n", "2:17: buffer.quota: 1 MiB is too little room for the store — write at least 64 MiB\n" +
			"2:33: buffer.reserve: 1 MiB is too little to stop before the disk is full — write at least 32 MiB\n" +
			"2:48: buffer.linger: 5s would hold every event back — write at most 20ms; 2ms is usual"},
		{"listen", site + "http: {listen: 8080}\n", "2:16: http.listen: `8080` is no address — write host:port, for example 127.0.0.1:8080"},
		{"port", site + "http: {listen: 127.0.0.1:80800}\n", "2:16: http.listen: `80800` is no port — write host:port, for example 127.0.0.1:8080"},
		{"beyond loopback", site + "http: {listen: \":8080\"}\n", "2:16: http.listen: `:8080` can be reached from other computers, and the page has no TLS and no password yet — listen on 127.0.0.1 and put a reverse proxy or an SSH tunnel in front"},
		{"sections", site + "devices: [a]\nmachines: x\nuplinks:\n", "2:10: devices: a list where a mapping is expected — write one `name: {…}` for each\n" +
			"3:11: machines: `x` where a mapping is expected — write one `name: {…}` for each\n" +
			"4:1: uplinks: nothing where a mapping is expected — write one `name: {…}` for each"},
		{"section names", site + "devices: {a/b: {driver: x}}\nmachines: {\" a\": {}, ..: {}, _gateway: {}}\n",
			"2:11: devices.a/b: the name holds '/', which ids, topics or paths use otherwise — use letters, digits, - _ . and, inside of it, spaces\n" +
				"3:12: machines. a: the name begins or ends with a space — use letters, digits, - _ . and, inside of it, spaces\n" +
				"3:22: machines...: the name is a folder's — use letters, digits, - _ . and, inside of it, spaces\n" +
				"3:30: machines._gateway: the name begins with `_`, which is reserved — use letters, digits, - _ . and, inside of it, spaces"},
		{"section values", site + "devices:\n  a:\n  b: x\nuplinks:\n  c: {}\n  d: {driver: [x]}\n",
			"3:3: devices.a: nothing where a mapping of keys is expected — write the keys below the name, indented\n" +
				"4:6: devices.b: `x` where a mapping of keys is expected — write the keys below the name, indented\n" +
				"6:6: uplinks.c: required key `driver` is missing — add it, for example driver: mqtt\n" +
				"7:6: uplinks.d: required key `driver` is missing — add it, for example driver: mqtt"},
		{"several", "site: {enterprise: a, site: b}\nbuffer: {kep: 7d}\nhttp: {listen: 1}\nuplnks: {}\ndevices: {a: {}}\n",
			"1:7: site: required key `area` is missing — add `area:`\n" +
				"2:10: buffer: unknown key `kep` — did you mean `keep`?\n" +
				"3:16: http.listen: `1` is no address — write host:port, for example 127.0.0.1:8080\n" +
				"4:1: unknown key `uplnks` — did you mean `uplinks`?\n" +
				"5:14: devices.a: required key `driver` is missing — add it, for example driver: modbus"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, got := load(t, map[string]string{"sluice.yaml": c.text})
			for i := range got {
				got[i] = strings.TrimPrefix(got[i], "sluice.yaml:")
			}
			same(t, got, strings.Split(c.want, "\n"))
		})
	}
}

func TestHostName(t *testing.T) {
	if name := hostName(); unusable(name) != "" {
		t.Errorf("%q %s", name, unusable(name))
	}
}
