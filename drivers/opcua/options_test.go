package opcua

import (
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
)

func TestOptions(t *testing.T) {
	t.Setenv("OPCUA_PASSWORD", "s3cret")
	const tags = "tags: {made: nsu=urn:a;s=A}\n"
	for _, c := range []struct {
		text    string
		want    string // part of one fault; empty for none
		warning bool
	}{
		{"endpoint: opc.tcp://127.0.0.1:4840\n" + tags, "", false},
		{"endpoint: localhost\n" + tags, "", false},
		{"endpoint: opc.tcp://10.0.0.5\n" + tags, "nothing says how", false},
		{"endpoint: opc.tcp://10.0.0.5\nchannel: None\n" + tags, "anybody on the network", true},
		{"endpoint: http://10.0.0.5\n" + tags, "does not begin with opc.tcp://", false},
		{"endpoint: opc.tcp://u:p@localhost\n" + tags, "holds a user", false},
		{"endpoint: opc.tcp://localhost:0\n" + tags, "no port", false},
		{"endpoint: opc.tcp://\n" + tags, "no host", false},
		{"endpoint: localhost\ntags: {}\n", "no tags", false},
		{"endpoint: localhost\npoll: 1ms\n" + tags, "less than 10ms", false},
		{"endpoint: localhost\npublishing: 1ms\n" + tags, "out of range", false},
		{"endpoint: localhost\nsampling: 1s\n" + tags, "longer than publishing", false},
		{"endpoint: localhost\ntimeout: 1ms\n" + tags, "out of range", false},
		{"endpoint: localhost\nqueue: -1\n" + tags, "not possible", false},
		{"endpoint: localhost\nchannel: {policy: Basic256}\n" + tags, "no security policy of this driver", false},
		{"endpoint: localhost\nchannel: None\n" + tags, "", false},
		{"endpoint: localhost\nchannel: Basic256Sha256\ncert: a\nkey: b\nserver_sha256: " + strings.Repeat("ab", 32) + "\n" + tags, "cannot be read: open a", false},
		{"endpoint: localhost\nchannel: Basic256\ncert: a\nkey: b\nserver_sha256: " + strings.Repeat("ab", 32) + "\n" + tags, "no security policy of this driver", false},
		{"endpoint: localhost\nchannel: {mode: sign}\n" + tags, "no message security mode", false},
		{"endpoint: localhost\nchannel: {mode: Sign}\n" + tags, "neither signs nor encrypts", false},
		{"endpoint: localhost\nchannel: {policy: Basic256Sha256, mode: None}\ncert: a\nkey: b\nserver_sha256: " + strings.Repeat("ab", 32) + "\n" + tags, "protects nothing", false},
		{"endpoint: opc.tcp://10.0.0.5\nchannel: Basic256Sha256\n" + tags, "", false},
		{"endpoint: localhost\nchannel: {policy: Aes128_Sha256_RsaOaep, mode: Sign}\n" + tags, "", false},
		{"endpoint: localhost\nchannel: Aes256_Sha256_RsaPss\ntrust: store\npki: there\n" + tags, "", false},
		{"endpoint: localhost\nchannel: Basic256Sha256\ntrust: any\n" + tags, "whoever answers is the server", true},
		{"endpoint: localhost\nchannel: Basic256Sha256\ntrust: all\n" + tags, "no way to trust", false},
		{"endpoint: localhost\nchannel: Basic256Sha256\ntrust: any\nserver_sha256: " + strings.Repeat("ab", 32) + "\n" + tags, "trust: any takes all", false},
		{"endpoint: localhost\nchannel: None\ntrust: any\n" + tags, "of no use with policy None", false},
		{"endpoint: localhost\nchannel: None\npki: there\n" + tags, "of no use with policy None", false},
		{"endpoint: localhost\nchannel: Basic256Sha256\nlogin: {cert: a}\n" + tags, "one is missing", false},
		{"endpoint: localhost\nchannel: Basic256Sha256\nlogin: {cert: a, key: b}\n" + tags, "cannot be read: open a", false},
		{"endpoint: localhost\nchannel: None\nlogin: {cert: a, key: b}\n" + tags, "of no use with policy None", false},
		{"endpoint: localhost\nchannel: Basic256Sha256\nlogin: {user: a, password: env:OPCUA_PASSWORD, cert: a, key: b}\n" + tags, "a user with a password, and", false},
		{"endpoint: localhost\nserver_sha256: abcd\n" + tags, "no SHA-256", false},
		{"endpoint: localhost\nserver_sha256: " + strings.Repeat("AB:", 31) + "AB\n" + tags, "of no use with policy None", false},
		{"endpoint: localhost\ncert: a\n" + tags, "one is missing", false},
		{"endpoint: localhost\nlogin: {user: a, password: env:OPCUA_PASSWORD}\n" + tags, "clear text", false},
		{"endpoint: localhost\nlogin: {user: a, password: env:OPCUA_PASSWORD}\nallow_insecure: true\n" + tags, "", false},
		{"endpoint: localhost\nlogin: {password: env:OPCUA_PASSWORD}\n" + tags, "no user", false},
		{"endpoint: localhost\ntags: {made: {node: nsu=urn:a;s=A, type: WSTRING}}\n", "no type of an OPC UA node", false},
		{"endpoint: localhost\ntags: {made: {node: nsu=urn:a;s=A, type: string, scale: 2}}\n", "only a number can be scaled", false},
		{"endpoint: localhost\ntags: {made: {node: nsu=urn:a;s=A, type: bool, deadband: 2}}\n", "only a number has one", false},
		{"endpoint: localhost\ntags: {made: {node: nsu=urn:a;s=A, scale: 0}}\n", "times 0", false},
		{"endpoint: localhost\ntags: {made: {node: nsu=urn:a;s=A, deadband: -1}}\n", "no amount", false},
		{"endpoint: localhost\ntags: {made: {node: nsu=urn:a;s=A, queue: 20000}}\n", "not possible", false},
	} {
		s, faults := config.ParseSection("dut", "test.yaml", "driver: opcua\n"+c.text)
		if len(faults) == 0 {
			_, faults = Kind.Check(s)
		}
		found := c.want == "" && len(faults) == 0
		for _, f := range faults {
			found = found || c.want != "" && strings.Contains(f.Problem, c.want) && f.Warning == c.warning
		}
		if !found {
			t.Errorf("%s: %v, want %q", c.text, faults, c.want)
		}
	}
}

func TestPlan(t *testing.T) {
	p := checkPlan(t, strings.Replace(section, "publishing: 50ms", "poll: 2s", 1), "localhost")
	if p.Interval != 2*time.Second || p.Endpoint != "opc.tcp://localhost:4840" || p.Timeout < 5*time.Second {
		t.Errorf("%+v", p)
	}
	want := map[plant.TagID]plant.Tag{
		"small": {ID: "small", Type: plant.TypeInt8, Address: "nsu=urn:sluice:plantsim:line;s=Line.Small", Every: 2 * time.Second},
		"made":  {ID: "made", Address: "ns=2;s=Line.Made", Every: 2 * time.Second},
		"level": {ID: "level", Scaled: true, Unit: "Cel", Address: "ns=2;s=Line.Level", Every: 2 * time.Second},
	}
	for _, tag := range p.Tags {
		if w, ok := want[tag.ID]; ok && tag != w {
			t.Errorf("%+v, want %+v", tag, w)
		}
	}
	if p := checkPlan(t, section, "localhost"); p.Interval != 0 {
		t.Errorf("a subscription has the interval %v", p.Interval)
	}
}

// What a subscription is sure to tell: what the server has sampled and could
// keep until it publishes.
func TestHowLongAChangeMustLast(t *testing.T) {
	for _, c := range []struct {
		publishing, sampling time.Duration
		queue                int
		want                 time.Duration
	}{
		{200 * time.Millisecond, 0, 0, 200 * time.Millisecond},
		{200 * time.Millisecond, 20 * time.Millisecond, 0, 20 * time.Millisecond},
		{200 * time.Millisecond, 20 * time.Millisecond, 4, 50 * time.Millisecond},
		{200 * time.Millisecond, 100 * time.Millisecond, 100, 100 * time.Millisecond},
	} {
		o := defaults()
		o.Publishing, o.Sampling, o.Queue = config.Duration(c.publishing), config.Duration(c.sampling), c.queue
		if got := newPoint("run", Tag{}, o).every(o); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// A session outlives the wait for the next poll, and not much more.
func TestSessionTimeout(t *testing.T) {
	for poll, want := range map[time.Duration]time.Duration{0: 10 * time.Second, time.Second: 10 * time.Second, time.Minute: 125 * time.Second} {
		o := defaults()
		o.Poll = config.Duration(poll)
		if got := o.sessionTimeout(); got != want {
			t.Errorf("polling each %v: %v, want %v", poll, got, want)
		}
	}
}

func TestNodeID(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"ns=2;s=Line.Made", ""}, {"ns=4;i=1001", ""}, {"i=2258", ""}, {"ns=0;i=2258", "i=2258"}, {"s=x", ""},
		{`ns=3;s="Line"."Made"[1]`, ""}, {"ns=2;s=a;s=b=c", ""}, {"ns=1;g=09087e75-8e5e-499b-954f-f2a9603db28a", ""}, {"ns=1;b=aGVsbG8=", ""},
		{"nsu=http://acme.example/UA/;s=a;b", ""}, {"nsu=urn:a%3Bb;i=5", "nsu=urn:a%3Bb;i=5"},
	} {
		var n NodeID
		if err := n.UnmarshalText([]byte(c.text)); err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if c.want == "" {
			c.want = c.text
		}
		if n.String() != c.want {
			t.Errorf("%s is written as %s", c.text, n)
		}
		index, err := placeOf(n, "", []string{"", "urn:a;b", "", "", "", "http://acme.example/UA/"})
		if err != nil || n.URI != "" && index == 0 {
			t.Errorf("%s: namespace %d, %v", c.text, index, err)
		}
		if id, err := n.in(index); err != nil || id.Namespace() != index {
			t.Errorf("%s: %v, %v", c.text, id, err)
		}
	}
	for _, text := range []string{"", "Line.Made", "ns=2", "ns=2;Line", "ns=70000;i=1", "ns=-1;i=1", "ns=x;i=1", "i=4294967296", "i=x", "g=no", "b=%%%", "nsu=urn:x", "nsu=;i=1", "ns=2;x=1", "svr=1;i=2", "s="} {
		var n NodeID
		if err := n.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken as %v", text, n)
		}
	}
}

func FuzzNodeID(f *testing.F) {
	for _, text := range []string{"ns=2;s=A", "nsu=urn:x;i=1", "g=09087e75-8e5e-499b-954f-f2a9603db28a", "nsu=a%3Bb%25;b=aGk="} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var n, again NodeID
		if n.UnmarshalText([]byte(text)) != nil {
			return
		}
		if err := again.UnmarshalText([]byte(n.String())); err != nil || again != n {
			t.Errorf("%q is %+v, written as %q it is %+v (%v)", text, n, n, again, err)
		}
	})
}
