package mqtt

import (
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/uplinktest"
)

// sections is the kind as a config meets it.
var sections = uplinktest.Sections{Driver: "mqtt", Check: Kind.Check, Plain: "url: tcp://127.0.0.1", Secure: "url: tls://broker.example"}

func TestSharedKeys(t *testing.T) { uplinktest.RunSections(t, sections) }

func TestCheckAcceptsAnUplink(t *testing.T) {
	p, faults := sections.Plan(t, "url: mqtts://broker.example\nwindow: 100\n")
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if p.Endpoint != "mqtts://broker.example:8883" || p.Options.BatchEvents != uplink.DefaultOptions().BatchEvents {
		t.Errorf("plan %+v", p)
	}
}

func TestCheckNamesEachFault(t *testing.T) {
	sections.Faults(t, map[string]string{
		"window: 5":                                   "url",
		"url: broker.example":                         "does not begin with",
		"url: http://broker.example":                  "does not begin with",
		"url: ws://broker.example":                    "WebSocket",
		"url: tcp://u:hunter2@broker.example":         "use user: and password:",
		"url: 'tcp://:1883'":                          "names no host",
		"url: tcp://broker.example/x":                 "behind host and port",
		"url: tcp://broker.example:0":                 "port",
		"url: tcp://broker.example:70000":             "port",
		"url: tcp://10.0.0.300":                       "no IPv4 address",
		"url: tcp://10,0,0,7:1883":                    "holds ','",
		"url: tls://broker.example:1883":              "warning",
		"url: mqtt://broker.example:8883":             "warning",
		"url: tcp://b\ntopic: 'a/{mashine}'":          "did you mean {machine}?",
		"url: 'tcp://broker.example:1883 '":           "no URL",
		"url: tcp://b\nwindow: 0":                     "window",
		"url: tcp://b\nwindow: 101":                   "window",
		"url: tcp://b\nwindow_bytes: 1 B":             "window_bytes",
		"url: tcp://b\nmax_packet: 1 GiB":             "max_packet",
		"url: tcp://b\nkeep_alive: 1500ms":            "keep_alive",
		"url: tcp://b\nconnect_timeout: 0s":           "connect_timeout",
		"url: tcp://b\nack_timeout: 1h":               "ack_timeout",
		"url: tcp://b\nsend_timeout: 10s":             "send_timeout",
		"url: tcp://b\ntopic: 'a/#'":                  "wildcard",
		"url: tcp://b\ntopic: a//{machine}":           "empty level",
		"url: tcp://b\ntopic: /a/{machine}":           "empty level",
		"url: tcp://b\ntopic: a/{machine":             "braces",
		"url: tcp://b\ntopic: a/{machine}}":           "braces",
		"url: tcp://b\ntopic: a/{shelf}/{machine}":    "no placeholder {shelf}",
		"url: tcp://b\ntopic: $SYS/{machine}":         "begins with $",
		"url: tcp://b\ntopic: ''":                     "empty",
		"url: tcp://b\ntopic: \"a\\u0000/{machine}\"": "control character",
		"url: tcp://b\ntopic: plain":                  "warning",
		"url: tcp://b\nstatus_topic: s/{machine}":     "no placeholder {machine}",
		"url: tcp://b\nclient_id: \"a\\tb\"":          "client_id",
		"url: tcp://b\ntopics: x":                     "topic",
	})
}

func TestCheckWarnsOfAPasswordInTheClear(t *testing.T) {
	t.Setenv("MQTT_PASSWORD", "hunter2")
	for url, warned := range map[string]bool{"tcp://broker.example": true, "tcp://127.0.0.1": false, "tcp://localhost": false, "tls://broker.example": false} {
		_, faults := sections.Plan(t, "url: "+url+"\nuser: u\npassword: env:MQTT_PASSWORD\n")
		if got := len(faults) == 1 && faults[0].Warning && strings.Contains(faults[0].Problem, "clear text"); got != warned || len(faults.Errors()) > 0 {
			t.Errorf("%s: %v", url, faults)
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
