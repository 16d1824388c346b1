package rest

import (
	"testing"

	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/uplinktest"
)

// sections is the kind as a config meets it.
var sections = uplinktest.Sections{Driver: "rest", Check: Kind.Check, Plain: "url: http://127.0.0.1", Secure: "url: https://mes.example"}

func TestSharedKeys(t *testing.T) { uplinktest.RunSections(t, sections) }

func TestCheckAcceptsAnUplink(t *testing.T) {
	t.Setenv("MES_TOKEN", uplinktest.Canary)
	p, faults := sections.Plan(t, "url: https://mes.example/v1/events?plant=7\nauth: {bearer: env:MES_TOKEN}\nheaders: {X-Plant: lisbon}\n")
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if p.Endpoint != "https://mes.example/v1/events" || p.Options.BatchEvents != maxRequests {
		t.Errorf("plan %+v", p)
	}
	if p, _ := sections.Plan(t, "url: https://mes.example\nbatch: 100\n"); p.Options.BatchEvents != uplink.DefaultOptions().BatchEvents {
		t.Errorf("batches of %d events", p.Options.BatchEvents)
	}
}

func TestCheckNamesEachFault(t *testing.T) {
	t.Setenv("GOOD", "hunter2")
	t.Setenv("LINES", "hunter2\nhunter2")
	t.Setenv("WORDS", "Bearer hunter2")
	const base = "url: https://mes.example\n"
	sections.Faults(t, map[string]string{
		"batch: 5":                                          "url",
		"url: mes.example":                                  "does not begin with",
		"url: ftp://mes.example":                            "does not begin with",
		"url: 'https://'":                                   "names no host",
		"url: 'https://:443'":                               "names no host",
		"url: https://gw:hunter2@mes.example":               "use auth:",
		"url: 'https://mes.example/#x'":                     "fragment",
		"url: 'https://mes.example/#'":                      "fragment",
		"url: https://mes.example:0":                        "port",
		"url: 'https://mes.example:'":                       "port",
		"url: https://mes.example:70000":                    "port",
		"url: 'https://mes.example/a b'":                    "no URL",
		"url: https://mes.example/ü":                        "no URL",
		"url: 'https://[::1'":                               "no URL",
		"url: http://mes.example":                           "warning",
		"url: http://mes.example\nauth: {bearer: env:GOOD}": "would go over the network in clear text",
		"url: http://mes.example\nallow_insecure: true\nauth: {bearer: env:GOOD}": "warning",
		"url: http://127.0.0.1\nproxy: http://p:80\nauth: {bearer: env:GOOD}":     "would go over the network in clear text",
		"url: https://mes.example?access_token=hunter2":                           "its query holds `access_token`",
		base + "method: GET":                     "neither POST nor PUT",
		base + "batch: 0":                        "batch",
		base + "batch: 1001":                     "batch",
		base + "batch: 600":                      "above batch_events",
		base + "max_body: 1 B":                   "max_body",
		base + "results: always":                 "results",
		base + "conflict: retry":                 "conflict",
		base + "timeout: 1ms":                    "timeout",
		base + "timeout: 20s\nsend_timeout: 31s": "2 × timeout",
		base + "auth: {bearer: hunter2}":         "clear text",
		base + "auth: {bearer: env:LINES}":       "auth.bearer",
		base + "auth: {bearer: env:WORDS}":       "without the word Bearer",
		base + "auth: {bearer: env:GOOD, basic: {user: u, password: env:GOOD}}":         "more than one way",
		base + "auth: {basic: {user: u}}":                                               "password",
		base + "auth: {basic: {user: 'a:b', password: env:GOOD}}":                       "auth.basic.user",
		base + "auth: {basic: {user: a, password: env:LINES}}":                          "auth.basic.password",
		base + "auth: {api_key: {header: 'X Key', value: env:GOOD}}":                    "auth.api_key.header",
		base + "auth: {api_key: {header: host, value: env:GOOD}}":                       "auth.api_key.header",
		base + "auth: {api_key: {header: X-Key, value: env:LINES}}":                     "auth.api_key.value",
		base + "headers: {Authorization: x}":                                            "looks like a secret",
		base + "headers: {X-Api-Key: x}":                                                "looks like a secret",
		base + "headers: {content-type: x}":                                             "sets this header itself",
		base + "headers: {'a b': x}":                                                    "no name of a header",
		base + `headers: {X-A: "a\r\nX-B: b"}`:                                          "headers.X-A",
		base + "headers: {X-A: a, x-a: b}":                                              "twice",
		base + "headers: {X-Key: a}\nauth: {api_key: {header: x-key, value: env:GOOD}}": "twice",
		base + "proxy: socks5://p":                                                      "proxy",
		base + "proxy: https://p/x":                                                     "behind host and port",
		base + "proxy: http://u:hunter2@p":                                              "use proxy_auth",
		base + "proxy: http://p/x":                                                      "behind host and port",
		base + "urls: x":                                                                "did you mean `url`",
	})
}
