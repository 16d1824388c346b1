package sluice_test

import "strings"

// breaches are snippets that break one rule each, or keep it where the rule
// could be too eager (fine).
var breaches = []struct {
	rule, name string
	path, text string
	more       []string // further files of the same package
	folders    []string
	want       string
	fine       bool
}{
	{rule: "import", name: "plant imports config", path: "plant/x.go", text: imports("plant", module+"/config"), want: "plant may not import config"},
	{rule: "import", name: "config imports drivers", path: "config/x.go", text: imports("config", module+"/drivers"), want: "may not import drivers"},
	{rule: "import", name: "config imports plant", path: "config/x.go", text: imports("config", module+"/plant"), fine: true},
	{rule: "import", name: "buffer imports uplink", path: "buffer/x.go", text: imports("buffer", module+"/uplink"), want: "may not import uplink"},
	{rule: "import", name: "buffer imports drivers", path: "buffer/x.go", text: imports("buffer", module+"/drivers"), want: "may not import drivers"},
	{rule: "import", name: "drivers import buffer", path: "drivers/x.go", text: imports("drivers", module+"/buffer"), want: "may not import buffer"},
	{rule: "import", name: "drivers import uplink", path: "drivers/x.go", text: imports("drivers", module+"/uplink"), want: "may not import uplink"},
	{rule: "import", name: "a driver imports buffer", path: "drivers/modbus/x.go", text: imports("modbus", module+"/buffer"), want: "may not import buffer"},
	{rule: "import", name: "a driver imports its sibling", path: "drivers/opcua/x.go", text: imports("opcua", module+"/drivers/modbus"), want: "may not import drivers/modbus"},
	{rule: "import", name: "a driver imports its contract", path: "drivers/opcua/x.go", text: imports("opcua", module+"/drivers", module+"/internal/kind", module+"/plant"), fine: true},
	{rule: "import", name: "a driver outside tests imports the suite", path: "drivers/opcua/x.go", text: imports("opcua", module+"/drivers/driverstest"), want: "driverstest"},
	{rule: "import", name: "a driver's test imports the suite", path: "drivers/opcua/x_test.go", text: imports("opcua", module+"/drivers/driverstest", module+"/internal/plantsim"), fine: true},
	{rule: "import", name: "an uplink's test imports the drivers' suite", path: "uplink/mqtt/x_test.go", text: imports("mqtt", module+"/drivers/driverstest"), want: "driverstest"},
	{rule: "import", name: "the contract imports kind", path: "drivers/x.go", text: imports("drivers", module+"/internal/kind"), want: "internal/kind"},
	{rule: "import", name: "derive imports buffer", path: "derive/x.go", text: imports("derive", module+"/buffer"), want: "may not import buffer"},
	{rule: "import", name: "derive's test imports buffer", path: "derive/x_test.go", text: imports("derive", module+"/buffer"), want: "may not import buffer"},
	{rule: "import", name: "a rule imports drivers", path: "derive/counter/x.go", text: imports("counter", module+"/drivers"), want: "may not import drivers"},
	{rule: "import", name: "uplink imports buffer", path: "uplink/x.go", text: imports("uplink", module+"/buffer"), want: "may not import buffer"},
	{rule: "import", name: "an uplink imports its sibling", path: "uplink/mqtt/x.go", text: imports("mqtt", module+"/uplink/sparkplug"), want: "uplink/sparkplug"},
	{rule: "import", name: "an uplink imports the session", path: "uplink/mqtt/x.go", text: imports("mqtt", module+"/uplink/internal/mqttsession"), fine: true},
	{rule: "import", name: "somebody imports status", path: "drivers/x.go", text: imports("drivers", module+"/status"), want: "may not import status"},
	{rule: "import", name: "somebody imports cmd", path: "status/x.go", text: imports("status", module+"/cmd/sluice"), want: "may not import cmd/sluice"},
	{rule: "import", name: "status imports what it shows", path: "status/x.go", text: imports("status", module+"/buffer", module+"/derive"), fine: true},
	{rule: "import", name: "an unknown package", path: "internal/util/x.go", text: imports("util"), want: "has no layer"},
	{rule: "import", name: "the simulation joins the rooms", path: "internal/sim/x_test.go", text: imports("sim", module+"/derive/counter", module+"/drivers", module+"/uplink"), fine: true},
	{rule: "import", name: "the simulation imports buffer", path: "internal/sim/x_test.go", text: imports("sim", module+"/buffer"), want: "may not import buffer"},
	{rule: "import", name: "bench imports all", path: "bench/x.go", text: imports("main", module+"/buffer", module+"/drivers/modbus", "github.com/goburrow/modbus"), fine: true},

	{rule: "kinds", name: "another file of cmd names a driver", path: "cmd/sluice/run.go", text: imports("main", module+"/drivers/modbus"), want: "only cmd/sluice/kinds.go names drivers/modbus"},
	{rule: "kinds", name: "a test of cmd names an uplink", path: "cmd/sluice/run_test.go", text: imports("main", module+"/uplink/mqtt"), want: "names uplink/mqtt"},
	{rule: "kinds", name: "the contract names a driver", path: "drivers/x.go", text: imports("drivers", module+"/drivers/modbus"), want: "names drivers/modbus"},
	{rule: "kinds", name: "kinds.go", path: "cmd/sluice/kinds.go", text: imports("main", module+"/drivers/modbus", module+"/uplink/mqtt"), fine: true},

	{rule: "fakes", name: "the gateway imports a stand-in", path: "cmd/sluice/x.go", text: imports("main", module+"/internal/central/prodsmart"), want: "only tests"},
	{rule: "fakes", name: "the gateway's test imports a stand-in", path: "cmd/sluice/x_test.go", text: imports("main", module+"/internal/central/prodsmart"), fine: true},
	{rule: "fakes", name: "a stand-in knows no sender", path: "internal/central/prodsmart/x.go", text: imports("prodsmart", module+"/internal/central"), fine: true},
	{rule: "import", name: "a stand-in imports a sender", path: "internal/central/prodsmart/x.go", text: imports("prodsmart", module+"/uplink"), want: "may not import uplink"},

	{rule: "library", name: "badger outside buffer", path: "cmd/sluice/x.go", text: imports("main", "github.com/dgraph-io/badger/v4"), want: "may not use"},
	{rule: "library", name: "badger in a test outside buffer", path: "cmd/sluice/x_test.go", text: imports("main", "github.com/dgraph-io/badger/v4"), want: "may not use"},
	{rule: "library", name: "badger in buffer", path: "buffer/x.go", text: imports("buffer", "github.com/dgraph-io/badger/v4"), fine: true},
	{rule: "library", name: "goburrow outside its driver", path: "drivers/x.go", text: imports("drivers", "github.com/goburrow/modbus"), want: "may not use"},
	{rule: "library", name: "paho outside the session", path: "uplink/mqtt/x.go", text: imports("mqtt", "github.com/eclipse/paho.mqtt.golang"), want: "may not use"},
	{rule: "library", name: "paho as a test's receiver", path: "uplink/mqtt/x_test.go", text: imports("mqtt", "github.com/eclipse/paho.mqtt.golang"), fine: true},
	{rule: "library", name: "gobreaker in a driver", path: "drivers/modbus/x.go", text: imports("modbus", "github.com/sony/gobreaker/v2"), want: "may not use"},
	{rule: "library", name: "gobreaker in buffer", path: "buffer/x.go", text: imports("buffer", "github.com/sony/gobreaker/v2"), want: "may not use"},
	{rule: "library", name: "the simulator's library in a driver", path: "drivers/modbus/x.go", text: imports("modbus", "github.com/simonvetter/modbus"), want: "may not use"},
	{rule: "library", name: "the simulator's library in its test", path: "drivers/modbus/x_test.go", text: imports("modbus", "github.com/simonvetter/modbus"), fine: true},
	{rule: "library", name: "a broker in cmd", path: "cmd/sluice/demo.go", text: imports("main", "github.com/mochi-mqtt/server/v2"), want: "may not use"},
	{rule: "library", name: "a logger in plant", path: "plant/x.go", text: imports("plant", "go.uber.org/zap"), want: "may not use"},
	{rule: "library", name: "a library that nobody chose", path: "cmd/sluice/x.go", text: imports("main", "github.com/spf13/viper"), want: "no row"},

	{rule: "std", name: "the gateway starts a program", path: "cmd/sluice/x.go", text: imports("main", "os/exec"), want: "starts no programs"},
	{rule: "std", name: "a test starts a program", path: "cmd/sluice/x_test.go", text: imports("main", "os/exec"), fine: true},
	{rule: "std", name: "unsafe", path: "plant/x.go", text: imports("plant", "unsafe"), want: "unsafe"},
	{rule: "std", name: "pprof", path: "status/x.go", text: imports("status", "net/http/pprof"), want: "pprof"},

	{rule: "blank", name: "a registration", path: "cmd/sluice/x.go", text: "package main\nimport _ \"image/png\"", want: "registration"},
	{rule: "blank", name: "embed", path: "status/x.go", text: "package status\nimport _ \"embed\"", fine: true},
	{rule: "blank", name: "a dot import", path: "plant/x.go", text: "package plant\nimport . \"strings\"", want: "dot import"},

	{rule: "forbidden", name: "the default mux", path: "status/x.go", text: "package status\nimport \"net/http\"\nvar m = http.DefaultServeMux", want: "DefaultServeMux"},
	{rule: "forbidden", name: "the default mux by its helper", path: "status/x.go", text: "package status\nimport web \"net/http\"\nfunc f() { web.HandleFunc(\"/\", nil) }", want: "HandleFunc"},
	{rule: "forbidden", name: "a method of that name", path: "status/x.go", text: "package status\nimport \"net/http\"\nfunc f(m *http.ServeMux) { m.HandleFunc(\"/\", nil) }", fine: true},
	{rule: "forbidden", name: "the default client", path: "cmd/sluice/x.go", text: "package main\nimport \"net/http\"\nvar c = http.DefaultClient", want: "DefaultClient"},
	{rule: "forbidden", name: "the global logger", path: "cmd/sluice/x.go", text: "package main\nimport \"go.uber.org/zap\"\nvar l = zap.L()", want: "zap.L"},
	{rule: "forbidden", name: "no check of certificates", path: "uplink/x.go", text: "package uplink\nimport \"crypto/tls\"\nvar c = tls.Config{InsecureSkipVerify: true}", want: "InsecureSkipVerify"},
	{rule: "forbidden", name: "no check of certificates in a test", path: "uplink/x_test.go", text: "package uplink\nimport \"crypto/tls\"\nfunc f(c *tls.Config) { c.InsecureSkipVerify = true }", want: "InsecureSkipVerify"},
	{rule: "forbidden", name: "value log GC", path: "buffer/x.go", text: "package buffer\nfunc f(db interface{ RunValueLogGC(float64) error }) {}", want: "RunValueLogGC"},
	{rule: "forbidden", name: "value log GC in bench", path: "bench/x.go", text: "package main\nfunc f() { db.RunValueLogGC(0.5) }", want: "RunValueLogGC"},
	{rule: "forbidden", name: "value log GC in a comment", path: "buffer/x.go", text: "package buffer\n// f never calls RunValueLogGC.\nfunc f() {}", fine: true},

	{rule: "init", name: "init", path: "drivers/x.go", text: "package drivers\nfunc init() {}", want: "main wires"},
	{rule: "init", name: "init in a test", path: "drivers/x_test.go", text: "package drivers\nfunc init() {}", want: "main wires"},
	{rule: "init", name: "a method", path: "drivers/x.go", text: "package drivers\ntype t struct{}\nfunc (t) init() {}", fine: true},

	{rule: "sleep", name: "a library sleeps", path: "drivers/x.go", text: "package drivers\nimport \"time\"\nfunc f() { time.Sleep(1) }", want: "wait for what is awaited"},
	{rule: "sleep", name: "a test sleeps", path: "drivers/x_test.go", text: "package drivers\nimport \"time\"\nfunc f() { time.Sleep(1) }", want: "wait for what is awaited"},
	{rule: "sleep", name: "a test sleeps in a bubble", path: "drivers/x_test.go", text: "package drivers\nimport (\n\"testing/synctest\"\n\"time\"\n)\nfunc f() { synctest.Wait(); time.Sleep(1) }", fine: true},

	{rule: "sleep", name: "a test polls for ever", path: "drivers/x_test.go", text: "package drivers\nimport \"time\"\nfunc f() { for !g() { time.Sleep(1) } }", want: "wait for what is awaited"},
	{rule: "sleep", name: "a test polls with a deadline", path: "drivers/x_test.go", text: "package drivers\nimport \"time\"\nfunc f() { for end := time.Now().Add(1); time.Now().Before(end); { time.Sleep(1) } }", fine: true},
	{rule: "sleep", name: "a test sleeps for a reason", path: "drivers/x_test.go", text: "package drivers\nimport \"time\"\nfunc f() {\n// The peer's pace.\ntime.Sleep(1)\n}", fine: true},
	{rule: "sleep", name: "a library sleeps for a reason", path: "drivers/x.go", text: "package drivers\nimport \"time\"\nfunc f() {\n// The peer's pace.\ntime.Sleep(1)\n}", want: "wait for what is awaited"},
	{rule: "sleep", name: "a library polls with a deadline", path: "drivers/x.go", text: "package drivers\nimport \"time\"\nfunc f() { for end := time.Now().Add(1); time.Now().Before(end); { time.Sleep(1) } }", want: "wait for what is awaited"},

	{rule: "interface", name: "five methods", path: "plant/x.go", text: "package plant\ntype I interface { A(); B(); C(); D(); E() }", want: "5 methods"},
	{rule: "interface", name: "four methods", path: "plant/x.go", text: "package plant\ntype I interface { A(); B(); C(); D() }", fine: true},

	{rule: "size", name: "501 lines", path: "plant/x.go", text: "package plant" + strings.Repeat("\n", 501), want: "501 lines"},
	{rule: "size", name: "500 lines", path: "plant/x.go", text: "package plant" + strings.Repeat("\n", 500), fine: true},

	{rule: "comment", name: "none", path: "plant/x.go", text: "package plant", want: "has no package comment"},
	{rule: "comment", name: "only a directive", path: "plant/x.go", text: "//go:build linux\n\npackage plant", want: "has no package comment"},
	{rule: "comment", name: "two", path: "plant/x.go", text: "// Package plant is.\npackage plant", more: []string{"// Package plant is too.\npackage plant"}, want: "second package comment"},
	{rule: "comment", name: "two paragraphs", path: "plant/x.go", text: "// Package plant is.\n//\n// And more.\npackage plant", want: "more than one paragraph"},
	{rule: "comment", name: "one", path: "plant/x.go", text: "// Package plant is.\npackage plant", more: []string{"package plant"}, fine: true},
	{rule: "comment", name: "tests alone", path: "internal/backoff/x_test.go", text: "// Package backoff_test is.\npackage backoff_test", fine: true},

	{rule: "folder", name: "a new one", path: "plant/x.go", text: "// Package plant is.\npackage plant", folders: []string{"plant", "pkg"}, want: "pkg"},
	{rule: "folder", name: "known ones", path: "plant/x.go", text: "// Package plant is.\npackage plant", folders: []string{"plant", ".ci", "firmware-notes"}, fine: true},
}

// imports returns a file that imports paths.
func imports(pkg string, paths ...string) string {
	text := "package " + pkg + "\n"
	for _, p := range paths {
		text += "import \"" + p + "\"\n"
	}
	return text
}
