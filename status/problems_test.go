package status

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/buffer"
	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

func whats(ps []Problem) []string {
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = p.What
	}
	return out
}

func TestProblemsRootCauseFirst(t *testing.T) {
	ps := Problems(plantAt())
	want := []string{
		"Device press-plc is away",
		"Uplink broker does not deliver",
		"Device filler-plc: 1 tag without a good value",
		"Uplink broker: 2 events refused",
		"Machine FILLER-01: the counter stands at its maximum",
	}
	if got := whats(ps); !slices.Equal(got, want) {
		t.Fatalf("got  %q\nwant %q", got, want)
	}
	if got := ps[0].Follows; len(got) != 1 || !strings.HasPrefix(got[0], "PRESS-01 cannot be seen;") {
		t.Errorf("the machine behind the lost device is not named as its consequence: %q", got)
	}
	if got := ps[1].Follows; len(got) != 1 || !strings.Contains(got[0], "123 events wait") || !strings.Contains(got[0], "5 min") {
		t.Errorf("the backlog is not named as the consequence of the open breaker: %q", got)
	}
	if !strings.Contains(ps[0].Do, "nothing listens on that port") {
		t.Errorf("a refused connection leads to the advice %q", ps[0].Do)
	}
}

func TestProblemsOfTheBufferComeBeforeAll(t *testing.T) {
	snap := plantAt()
	snap.Buffer.Full, snap.Buffer.FullSince = true, noon.Add(-time.Minute)
	snap.Machines[1].Waiting = true
	ps := Problems(snap)
	if ps[0].Severity != Losing || ps[0].What != "Recording has stopped: there is no space" {
		t.Fatalf("first is %+v", ps[0])
	}
	if !slices.Equal(ps[0].Follows, []string{"FILLER-01 waits to record"}) {
		t.Errorf("follows %q", ps[0].Follows)
	}
}

func TestProblemsHideAFlap(t *testing.T) {
	snap := wellPlant()
	if ps := Problems(snap); len(ps) != 0 {
		t.Fatalf("a plant that is well has the problems %q", whats(ps))
	}
	d, u := &snap.Devices[0], &snap.Uplinks[0]
	d.Connected, d.Since = false, noon.Add(-flap+time.Second)
	u.Breaker, u.Since = "open", noon.Add(-flap+time.Second)
	if ps := Problems(snap); len(ps) != 0 {
		t.Errorf("a flap is shown: %q", whats(ps))
	}
	d.Session, d.LastError = 0, ""
	if ps := Problems(snap); len(ps) != 0 {
		t.Errorf("a device that was not asked yet is shown: %q", whats(ps))
	}
	d.LastError = "connection refused"
	if ps := Problems(snap); len(ps) != 1 {
		t.Errorf("a device that never answered is not shown at once: %q", whats(ps))
	}
	d.Session, d.Since, u.Since = 1, noon.Add(-flap), noon.Add(-flap)
	if ps := Problems(snap); len(ps) != 2 {
		t.Errorf("what lasts is not shown: %q", whats(ps))
	}
}

func TestProblemsOfAStreamThatStands(t *testing.T) {
	snap := wellPlant()
	snap.Uplinks[0].Problems = []uplink.Problem{
		{Machine: "PRESS-01", Kind: plant.KindStartStop, Held: true, Since: noon.Add(-time.Hour), Text: "422 unknown downtime type"},
		{Machine: "FILLER-01", Since: noon.Add(-time.Minute), Text: "i/o timeout"},
		{Machine: "MIXER-01", Kind: plant.KindDosing, Held: true, Since: noon.Add(-time.Minute), Text: `no row for "SUGAR"`, Remedy: `add a row for "SUGAR" to codes/parts.csv`},
	}
	want := []string{
		"Uplink broker: the events of PRESS-01 are held, it refuses startstop",
		"Uplink broker: the events of FILLER-01 do not go out",
		"Uplink broker: the events of MIXER-01 are held, no request can be made of dosing",
	}
	ps := Problems(snap)
	if got := whats(ps); !slices.Equal(got, want) {
		t.Fatalf("got  %q\nwant %q", got, want)
	}
	if ps[0].Cause != "422 unknown downtime type" || !strings.Contains(ps[0].Do, "codes") {
		t.Errorf("got %+v", ps[0])
	}
	if got := ps[2].Do; !strings.Contains(got, `uplink broker: add a row for "SUGAR" to codes/parts.csv. Then`) || strings.Contains(got, "accepts") {
		t.Errorf("got %q", got)
	}
	snap.Uplinks[0].Down, snap.Uplinks[0].DownSince = true, noon.Add(-time.Minute)
	if got := whats(Problems(snap)); !slices.Equal(got, []string{"Uplink broker does not deliver"}) {
		t.Errorf("the root cause does not hide its consequences: %q", got)
	}
}

func TestProblemsNameWhatTheBufferFound(t *testing.T) {
	snap := wellPlant()
	snap.Buffer.Lost = 3
	snap.Buffer.Damage = []buffer.Damage{{Reason: "checksum", Found: noon.Add(-time.Minute)}}
	snap.Buffer.Queues = []buffer.QueueStats{{Uplink: "old", Problem: "it is not configured any more"}}
	snap.Devices[0].Panics = 1
	snap.Machines[0].Overflows = 7
	want := []string{
		"3 stored records found damaged or missing", "Events for uplink old", "Device press-plc: its driver failed 1 time",
		"Machine PRESS-01: 7 readings not taken in time",
	}
	if got := whats(Problems(snap)); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestPageOfALostDeviceDoesNotClaimItsMachineRuns(t *testing.T) {
	snap := plantAt()
	k := machineCard(snap, &snap.Machines[0], clock{noon, time.UTC})
	if k.Class != "unknown" || k.Word != "cannot be seen: press-plc is away" || k.Since != "since 11:48:00 (12\u00a0min)" || !slices.Contains(k.Lines, line{"Seen last", "running since 11:00:00 (1\u00a0h\u00a00\u00a0min)"}) {
		t.Errorf("got %+v", k)
	}
}

func TestWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 s", 59 * time.Second: "59 s", 90 * time.Second: "1 min", 2*time.Hour + 5*time.Minute: "2 h 5 min", 50 * time.Hour: "2 d 2 h",
	} {
		if got := lasting(d); got != want {
			t.Errorf("lasting(%s) = %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1\u202f000", 1234567: "1\u202f234\u202f567", -1000: "-1\u202f000"} {
		if got := number(n); got != want {
			t.Errorf("number(%d) = %q, want %q", n, got, want)
		}
	}
	c := clock{noon, time.FixedZone("WET+1", 3600)}
	if got := c.since(noon.Add(-time.Minute)); got != "since 12:59:00 (1\u00a0min)" {
		t.Error(got)
	}
	if got := c.since(noon.Add(-24 * time.Hour)); got != "since 2026-03-13 13:00:00 (1\u00a0d\u00a00\u00a0h)" {
		t.Error(got)
	}
	if got := c.ago(time.Time{}); got != "" {
		t.Errorf("no time is written %q", got)
	}
}

func TestAdviceKnowsTheWordsOfFailedConnections(t *testing.T) {
	for cause, part := range map[string]string{
		"dial tcp 10.0.0.7:502: connect: connection refused":      "nothing listens",
		"dial tcp: lookup plc-7: no such host":                    "spelling",
		"dial tcp 10.0.0.7:502: connect: no route to host":        "cable",
		"dial tcp 10.0.0.7:502: i/o timeout":                      "switched on",
		"context deadline exceeded":                               "switched on",
		"read: connection reset by peer":                          "closed the connection",
		"EOF":                                                     "closed the connection",
		"tls: failed to verify certificate: x509: unknown issuer": "certificate",
		"not Authorized":                                          "login",
		"modbus: exception 2 (illegal data address)":              "address",
		"opcua: connect x: the server does not offer Basic256Sha256/SignAndEncrypt; it offers Basic256Sha256/Sign":                                 "write one that it offers as channel",
		"opcua: connect x: the server takes no login of the kind user name with Basic256Sha256/Sign; it offers Basic256Sha256/Sign (anonymous)":    "another kind of login",
		"opcua: connect x: the server's certificate is not trusted: its SHA-256 is ab (x): compare it with the tool, then: sluice trust add ab":    "type the command above",
		"opcua: read from x: the server is suspended (state 3)":                                                                                    "does not run",
		"prodsmart: POST https://x/: Prodsmart answers 429 Too Many Requests":                                                                      "wants fewer requests",
		"prodsmart: before the gateway was started, Prodsmart answered 429 Too Many Requests and asked not to be called before 2026":               "wants fewer requests",
		"rest: POST https://x/: the receiver answers 504 Gateway Timeout":                                                                          "can take nothing now",
		"prodsmart: Prodsmart answers 302 Found; it sends us to https://y/, which is not followed; if that is right, write it as url":              "has moved",
		"prodsmart: Prodsmart answers 200 OK, but a web page came where an answer was expected: is there a login portal or a proxy in between?":    "Something in between",
		"nextplus: POST https://x/: the receiver answers 405 Method Not Allowed; check the URL: it does not take POST":                             "check the url",
		"rest: POST https://x/: the receiver answers 401 Unauthorized":                                                                             "refuses the login",
		"modbus: read holding:1 from line hall (/dev/ttyUSB0), unit 7: no answer of unit 7 within 300ms: check its power":                          "A and B",
		"modbus: read holding:1 from line hall, unit 7: no answer of unit 7 within 300ms, but one came after 800ms: raise timeout":                 "raise timeout",
		"modbus: read holding:1 from line hall, unit 7: what came is whole, but no answer to this request (it is of unit 9, and unit 7 was asked)": "two devices with one unit id",
		"modbus: read holding:1 from line hall, unit 7: what came is no answer (its check sum is wrong): check baud":                               "termination",
		"modbus: read holding:1 from line hall, unit 7: the line is never silent: another master":                                                  "another master",
		"line hall: the port /dev/ttyUSB0 is not there: plug in the adaptor":                                                                       "/dev/serial/by-id",
		"line hall: the other end hung up":                                                    "/dev/serial/by-id",
		"opcua: connect x: dial x: bind: the network card eth1 is down (ip link set eth1 up)": "ip addr",
		"line: open listens at :4001 of 192.0.2.77: listen tcp 192.0.2.77:4001: bind: cannot assign requested address: is the address one of this computer": "or in listen",
		"mqtt: bind: this computer has no network card with the address 10.1.2.3 (ip addr shows them)":                                                      "ip addr",
		"rest: bind: ::1 is an address of IPv6, and 127.0.0.1:80 has none (write an address of the card of IPv4)":                                           "ip addr",
		"modbus: connect 10.0.0.7:502: bind: this computer has no network card eth9 (ip link shows them)":                                                   "ip addr",
		"modbus: read holding:1 from 10.0.0.7:502: the device does not keep to the protocol: protocol id 21584":                                             "another framing",
		"modbus: read holding:1 from 10.0.0.7:502: the device closed the connection":                                                                        "closed the connection",
		"the device answered exception 9 (not in the specification) to holding:1":                                                                           "own manual",
		"the device answered exception 11 (gateway target device failed to respond) to holding:1":                                                           "behind it does not",
		"the device answered exception 6 (server device busy) to holding:1":                                                                                 "busy",
		"opcua: connect x: an answer of the server is longer than 1048576 bytes: read less at once, or raise max_message":                                   "max_message",
		"opcua: connect x: an answer of the server is not decoded: it has values in values, more than 100 deep":                                             "restart the server",
		"opcua: connect x: an answer of the server cannot be decoded (runtime error)":                                                                       "restart the server",
		"opcua: read from x: the server answers request 7 with the answer to another one (handle 6): none of its values are taken":                          "restart the server",
		"opcua: connect x: the server opens a channel that nobody asked for":                                                                                "who answers there",
		"opcua: connect x: the server sends a chunk of 825110831 bytes, and 8 to 8192 are possible: it is broken, or no OPC UA server":                      "check address and port",
		"opcua: connect x: The request specified too many operations. StatusBadTooManyOperations (0x80100000)":                                              "raise that limit",
		"opcua: connect x: the server does not take this login: check login.user and login.password, or that the server trusts login.cert (Bad)":            "login with user and password",
		"opcua: connect x: the server's certificate ended on 2025-01-01T00:00:00Z; give the server a new one":                                               "let it make a new one",
		"opcua: connect x: the server's certificate is for the application urn:a, and the server says it is urn:b":                                          "is another's",
		"opcua: connect x: the server's certificate is valid only from 2027-01-01T00:00:00Z; is the clock of this computer right?":                          "clock of this PC",
		"": "Check",
		`mqtt: 6 sessions ended while this message was sent (500 bytes to "a/b"); it is kept and tried again: no PUBACK within 2s: EOF`: "limit of size",
		"mqtt: no PUBACK within 2s: given up by this side":                                                                                                   "acknowledges nothing",
		"mqtt: connect: network Error : the broker answered CONNECT with code 127, which MQTT 3.1.1 does not know":                                           "which versions",
		"rest: POST http://mes/x: it does not keep to HTTP: server response headers exceeded 65536 bytes; aborted":                                           "not as HTTP has it",
		"rest: POST http://mes/x: the receiver answers 407 Proxy Authentication Required; the proxy wants a login, or refuses that of proxy_auth":            "proxy_auth",
		"rest: POST https://mes/x: the proxy wants a login, which this uplink has not; set proxy_auth, or let the proxy pass this computer":                  "proxy_auth",
		"rest: POST https://mes/x: the proxy answers 502 Bad Gateway to the wish for a connection; ask who runs it what it lets pass":                        "runs the proxy",
		"rest: POST https://mes/x: the proxy: tls: failed to verify certificate: x509: certificate signed by unknown authority":                              "agree on a certificate",
		"rest: POST http://mes/x: of this event the receiver says busy: timeout of the database":                                                             "wants this event again",
		"rest: POST http://mes/x: of this event the receiver says maybe, which is no status":                                                                 "answer: words:",
		"rest: read results: the receiver answers 201 Created, but says nothing of each event":                                                               "results: required",
		"rest: read results: the receiver answers 200 OK, but what it says is no valid JSON":                                                                 "what became of each event",
		"rest: POST http://mes/x: the receiver answers 422 Unprocessable Content: no answer of the database, dial tcp: i/o timeout":                          "does not take them",
		"rest: POST http://mes/x: the receiver answers 400 Bad Request; it speaks TLS there: write https:// in url":                                          "wants TLS",
		"rest: POST https://mes/x: the proxy http://10.0.0.1:3128 closed the connection before it answered; if it is called by TLS, write https:// in proxy": "write https:// in proxy",
		"rest: POST http://mes/x: it does not answer in HTTP; if it speaks TLS there, write https:// in url":                                                 "write https:// in the url",
		"rest: POST http://mes/x: it closed the connection before it answered":                                                                               "may have restarted",
		`mqtt: the broker ends each session: another gateway "gw" uses the client_id "c" too (the broker ended the session: EOF)`:                            "its own client_id",
		`mqtt: the broker ends each session: uplink b1 of this gateway uses the client_id "c" too (the broker ended the session: EOF)`:                       "Leave client_id out of one of the two uplinks",
		"rest: POST https://mes:8080/x: no TLS handshake within 5s; look whether the port in url is one of TLS":                                              "nothing that speaks TLS",
	} {
		if got := adviceOf(cause); !strings.Contains(got, part) {
			t.Errorf("advice(%q) = %q, want something with %q", cause, got, part)
		}
	}
}

func TestTagAdviceKnowsTheWordsOfServers(t *testing.T) {
	for cause, part := range map[string]string{
		"namespace 2 was urn:a and is now urn:b: write nsu=urn:a; instead of ns=2; or the namespace that is right now": "write nsu=",
		"the server has no namespace urn:c; it has urn:a":                                                              "as the cause lists them",
		"not a number: the device has no value":                                                                        "NaN",
		"the server has no contact to the device behind it (BadNoCommunication 0x80310000)":                            "PLC behind it",
		"the sensor has failed (BadSensorFailure 0x808C0000)":                                                          "sensor and its wiring",
		"the array has 3 elements":                                                                                     "counted from 0",
		"the value is somehow odd":                                                                                     "what the PLC itself says",
	} {
		if got := tagAdvice(&drivers.Stats{}, cause); !strings.Contains(got, part) {
			t.Errorf("tagAdvice(%q) = %q, want something with %q", cause, got, part)
		}
	}
}

// What is only the consequence of a device that is away, or of a tag that is
// bad, is not a problem of its own.
func TestProblemsLeaveOutWhatIsExplained(t *testing.T) {
	snap := plantAt()
	device := &snap.Devices[0]
	snap.Machines[0].Problems = []derive.Problem{{Text: "the counter was never read", Remedy: "check it", Device: device.Device, Tag: "made"}}
	told := func() bool {
		return slices.ContainsFunc(whats(Problems(snap)), func(what string) bool { return strings.Contains(what, "never read") })
	}
	device.Connected, device.BadTags = true, nil
	if !told() {
		t.Error("without another cause it must be told")
	}
	device.BadTags = map[plant.TagID]string{"made": "exception 2"}
	if told() {
		t.Error("told beside the bad tag that is its cause")
	}
	device.Connected, device.BadTags = false, nil
	if told() {
		t.Error("told beside the device that is away")
	}
}

// Tags that are bad for different causes are told apart, with one cause together.
// What a driver has to say is shown whether its device is there or not, and what
// is urgent comes before what is only not as it should be.
func TestProblemsTellTheNoticesOfDrivers(t *testing.T) {
	for _, connected := range []bool{true, false} {
		snap := wellPlant()
		d := &snap.Devices[0]
		d.Connected, d.Since = connected, noon.Add(-time.Hour)
		d.Notices = []drivers.Notice{{Text: "anybody on the network can read", Do: "Name a policy."}, {Text: "its certificate ends", Do: "Make a new one.", Urgent: true}}
		ps := Problems(snap)
		slices.Reverse(ps)
		name := "Device " + string(d.Device) + ": "
		if len(ps) < 2 || ps[0].What != name+"anybody on the network can read" || ps[0].Severity != Doubtful || ps[0].Do != "Name a policy." {
			t.Errorf("connected %v: %q", connected, whats(ps))
		}
		if at := slices.Index(whats(ps), name+"its certificate ends"); at < 0 || ps[at].Severity != Stuck {
			t.Errorf("connected %v: %q", connected, whats(ps))
		}
	}
}

func TestProblemsGroupBadTagsByCause(t *testing.T) {
	snap := plantAt()
	d := &snap.Devices[0]
	d.Connected, d.BadTags = true, map[plant.TagID]string{"a": "no such node", "b": "not a number", "c": "no such node"}
	var causes []string
	for _, p := range Problems(snap) {
		if strings.Contains(p.What, string(d.Device)) {
			causes = append(causes, p.Cause)
		}
	}
	if want := []string{"a, c: no such node", "b: not a number"}; !slices.Equal(causes, want) {
		t.Errorf("causes %q, want %q", causes, want)
	}
}

func TestProblemsNameWhatIsMissing(t *testing.T) {
	snap := wellPlant()
	snap.Buffer.Missing = map[plant.GapCause]uint64{plant.GapLostTail: 12, plant.GapDamaged: 1}
	snap.Buffer.Gaps = []buffer.Gap{
		{Machine: "PRESS-01", First: 5, Last: 14, Count: 10, Cause: plant.GapLostTail, Reason: "the newest records are gone", Told: noon},
		{Machine: "FILLER-01", First: 3, Last: 3, Count: 1, Cause: plant.GapDamaged, Reason: "wrong checksum", Told: noon},
		{Machine: "FILLER-01", First: 7, Last: 8, Count: 2, Cause: plant.GapLostTail, Reason: "the newest records are gone", Told: noon},
	}
	want := []string{"1 recorded event missing (damaged): FILLER-01", "12 recorded events missing (lost tail): PRESS-01, FILLER-01"}
	ps := Problems(snap)
	if got := whats(ps); !slices.Equal(got, want) {
		t.Fatalf("got  %q\nwant %q", got, want)
	}
	for _, p := range ps {
		if p.Severity != Doubtful || p.Cause == "" || !strings.Contains(p.Do, "Check the disk") {
			t.Errorf("%+v", p)
		}
	}
}

func TestAWrongClockIsAProblem(t *testing.T) {
	snap := wellPlant()
	d := &snap.Devices[0]
	d.ClockKnown, d.ClockWrong, d.ClockOffset, d.ClockSince, d.MaxSkew = true, true, -2*time.Hour, noon.Add(-time.Minute), 5*time.Second
	ps := Problems(snap)
	if len(ps) != 1 || ps[0].Severity != Doubtful || !ps[0].Since.Equal(d.ClockSince) ||
		ps[0].What != "Device "+string(d.Device)+": its clock is 2 h 0 min behind this PC's" || !strings.HasPrefix(ps[0].Do, "Set the device's clock") {
		t.Fatalf("problems %+v", ps)
	}
	d.ClockOffset, snap.ClockUncertain = 10*time.Second, true
	if ps = Problems(snap); len(ps) != 1 || !strings.Contains(ps[0].What, "10 s ahead of") || !strings.HasPrefix(ps[0].Do, "Nothing keeps this PC's clock right") {
		t.Errorf("problems %+v", ps)
	}
	d.ClockWrong = false
	if ps = Problems(snap); len(ps) != 0 {
		t.Errorf("problems %+v", ps)
	}
}

func TestBadTagsHaveABeginningAndTheirOwnAdvice(t *testing.T) {
	snap := wellPlant()
	d := &snap.Devices[0]
	d.BadTags = map[plant.TagID]string{
		"a": "the node is of the type UInt16, the config says int32", "b": "the node is of the type UInt16, the config says int32",
		"c": "the server has no such node", "d": "BadSensorFailure",
	}
	d.BadSince = map[plant.TagID]time.Time{"a": noon.Add(-time.Minute), "b": noon.Add(-time.Hour), "c": noon.Add(-2 * time.Minute), "d": noon.Add(-time.Second)}
	want := map[string]string{"a, b": "Write the type", "c": "It answers, but has no such node", "d": "The device answers, but this value is not good"}
	ps := Problems(snap)
	if len(ps) != len(want) {
		t.Fatalf("problems %+v", ps)
	}
	for _, p := range ps {
		tags, _, _ := strings.Cut(p.Cause, ":")
		if do := want[tags]; do == "" || !strings.HasPrefix(p.Do, do) {
			t.Errorf("%s: %q, want %q", tags, p.Do, do)
		}
		if p.Since.IsZero() || tags == "a, b" && !p.Since.Equal(noon.Add(-time.Hour)) {
			t.Errorf("%s: since %v", tags, p.Since)
		}
	}
}

func TestAdviceFitsTheCause(t *testing.T) {
	snap := wellPlant()
	u := &snap.Uplinks[0]
	u.Down, u.DownSince, u.Next = true, noon.Add(-time.Hour), noon.Add(42*time.Second)
	u.LastError = "rest: POST http://mes/events: the receiver answers 401 Unauthorized; check the secret of auth"
	if ps := Problems(snap); len(ps) != 1 || !strings.Contains(ps[0].Do, "token") || !strings.HasSuffix(ps[0].Do, "It is tried again in 42 s.") {
		t.Errorf("problems %+v", ps)
	}
	snap = wellPlant()
	snap.Devices[0].Connected, snap.Devices[0].Since = false, noon.Add(-time.Hour)
	snap.Devices[0].LastError = "the server does not trust cert: accept it in the server's own tool"
	if ps := Problems(snap); len(ps) != 1 || !strings.Contains(ps[0].Do, "accept the gateway's certificate") {
		t.Errorf("problems %+v", ps)
	}
	for reason, want := range map[string]string{
		"the disk is nearly full: make space on it":                                                        "Free disk space on this PC. Recording goes on",
		"the quota is used up by events that are not delivered: bring the uplinks back or raise the quota": "Bring the uplinks back or raise the quota. Recording goes on",
	} {
		snap = wellPlant()
		snap.Buffer.Full, snap.Buffer.FullSince, snap.Buffer.FullReason = true, noon, reason
		if ps := Problems(snap); len(ps) != 1 || !strings.HasPrefix(ps[0].Do, want) {
			t.Errorf("%s: %+v", reason, ps)
		}
	}
	snap = wellPlant()
	snap.Buffer.Warnings = []string{"/data is on a disk in memory, which is empty after a power cut (tmpfs, /data): give buffer.path a folder on a local disk with ext4 or xfs"}
	ps := Problems(snap)
	if len(ps) != 1 || ps[0].Do != "Give buffer.path a folder on a local disk with ext4 or xfs." || !strings.HasSuffix(ps[0].Cause, "(tmpfs, /data)") {
		t.Errorf("problems %+v", ps)
	}
}

func TestProblemsOfTooManyRefusedEvents(t *testing.T) {
	snap := wellPlant()
	b := &snap.Buffer
	b.DeadLetters, b.DeadMost, b.DeadBytes, b.DeadMostBytes = 79, 100, 7900, 10_000
	if ps := Problems(snap); len(ps) != 0 {
		t.Errorf("under four fifths: %q", whats(ps))
	}
	for _, change := range []func(){func() { b.DeadLetters = 80 }, func() { b.DeadLetters, b.DeadBytes = 1, 8000 }} {
		change()
		if ps := Problems(snap); len(ps) != 1 || ps[0].What != "There is soon no room for refused events" || !strings.Contains(ps[0].Cause, "at most 100") {
			t.Errorf("%d letters, %d bytes: %q", b.DeadLetters, b.DeadBytes, whats(ps))
		}
	}
	b.DeadMost = 0
	if ps := Problems(snap); len(ps) != 0 {
		t.Errorf("without a bound: %q", whats(ps))
	}
}
