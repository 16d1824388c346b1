package mqtt

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/mqttsession"
	"github.com/sluice-edge/sluice/uplink/uplinktest"
)

// Another gateway is the other one only if it uses the same client_id: the uplinks
// of one gateway share the status topic.
func TestRivalIsWhoUsesTheSameClientID(t *testing.T) {
	me := whoami("gw", "c-1")
	for name, test := range map[string]struct {
		status []byte
		rival  bool
	}{
		"this one":             {me.status("offline"), false},
		"a copied disk":        {whoami("gw", "c-1").status("online"), true},
		"another uplink":       {whoami("gw", "c-2").status("online"), false},
		"a version without it": {whoami("gw", "").status("online"), true},
		"no status of ours":    {[]byte("up"), false},
		"one without instance": {[]byte(`{"gateway":"gw","status":"online"}`), false},
	} {
		if got := me.rival(test.status); strings.HasPrefix(got, `another gateway "gw"`) != test.rival {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// Where it is another uplink of this gateway, that one is named, and not this gateway
// as another one.
func TestRivalIsTheOtherUplinkOfThisGateway(t *testing.T) {
	me, elsewhere := whoami("gw", "c-1"), whoami("gw", "c-1")
	me.twin, elsewhere.Host = "b1", "edge-8"
	for name, c := range map[string]struct {
		other self
		want  string
	}{
		"the other uplink":  {whoami("gw", "c-1"), "uplink b1 of this gateway"},
		"another gateway":   {whoami("gw-2", "c-1"), `another gateway "gw-2"`},
		"a copied disk":     {elsewhere, `another gateway "gw" on the computer "edge-8"`},
		"another client_id": {whoami("gw", "c-2"), ""},
	} {
		if got := me.rival(c.other.status("online")); !strings.HasPrefix(got, c.want) || got == "" != (c.want == "") {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// Two uplinks of one gateway with one client_id name each other with the remedy for
// that, also where each has a status topic of its own and cannot see the other's.
func TestTwoUplinksWithOneClientID(t *testing.T) {
	for _, topics := range [][2]string{{"st", "st"}, {"st/one", "st/two"}} {
		t.Run(topics[1], func(t *testing.T) {
			t.Parallel() // it mostly waits
			const rest = 500 * time.Millisecond
			o := testOptions(newEmbedded(t).Addr())
			o.ClientID, o.KeepAlive = "same", config.Duration(10*time.Second)
			var both []copied
			for i, twin := range []string{"b2", "b1"} {
				o.StatusTopic = topics[i]
				both = append(both, openCopied(t, o, rest, twin))
			}
			for i, twin := range []string{"b2", "b1"} {
				want := "uplink " + twin + ` of this gateway uses the client_id "same" too`
				eventually(t, want, func() bool { return strings.HasPrefix(both[i].rival(), want) })
				var stats uplink.Stats
				both[i].Inform(&stats)
				for _, n := range stats.Notices {
					if strings.Contains(n.Text, "client_id") && !strings.HasPrefix(n.Do, "Leave client_id out of one of the two uplinks") {
						t.Errorf("%s: %s", n.Text, n.Do)
					}
				}
				if n := both[i].log.FilterMessageSnippet("with one client_id").FilterField(zap.String("who", want)).Len(); n == 0 {
					t.Errorf("the log does not name %s", twin)
				}
			}
		})
	}
}

// copied is one of two gateways that use one client_id.
type copied struct {
	*Sender
	log *observer.ObservedLogs
}

// openCopied opens one that rests for so long, with all that it does without events.
// twin is the other uplink of the same gateway, if the other one is that.
func openCopied(t *testing.T, o Options, rest time.Duration, twin string) copied {
	core, log := observer.New(zap.InfoLevel)
	s := openAs(t, o, uplink.Env{Log: zap.New(core), Shared: map[string]string{"client_id": twin}})
	endpoints, err := o.endpoints()
	if err != nil {
		t.Fatal(err)
	}
	brokers, err := o.brokers(endpoints, s.files.note)
	if err != nil {
		t.Fatal(err)
	}
	settings := s.settings(o, brokers, newPlace(s.env.Path, s.env.Gateway))
	settings.Rest = rest
	s.session = mqttsession.New(settings) // nothing is connected yet
	runBeside(t, s)
	return copied{s, log}
}

// rival is what the page says of another client.
func (c copied) rival() string {
	var stats uplink.Stats
	c.Inform(&stats)
	for _, n := range stats.Notices {
		if strings.Contains(n.Text, "client_id") && n.Do != "" && !n.Since.IsZero() {
			return n.Text
		}
	}
	return ""
}

// Two gateways with one client_id throw each other out though neither has an
// event to send: each names the other on its page and once in its log, leaves it in
// peace for a while, and delivers what it has in its turn. When one is gone the
// other says so no more.
func TestTwoGatewaysWithOneClientID(t *testing.T) {
	for name, addr := range map[string]func(*testing.T) string{
		"embedded":  func(t *testing.T) string { return newEmbedded(t).Addr() },
		"mosquitto": func(t *testing.T) string { return newMosquitto(t).Addr() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it mostly waits
			// A session that lives for three of them has no rival any more: on a busy machine
			// the other one may come that much too late.
			const rest = 1500 * time.Millisecond
			o := testOptions(addr(t))
			o.ClientID, o.StatusTopic = "copied", "st/{gateway}"
			o.KeepAlive = config.Duration(10 * time.Second) // the embedded broker ends who says nothing for 1 s after 1 s
			one, two := openCopied(t, o, rest, ""), openCopied(t, o, rest, "")
			host, err := os.Hostname()
			if err != nil {
				t.Fatal(err)
			}
			want := fmt.Sprintf(`another gateway "gw" on the computer %q uses the client_id "copied" too`, host)
			for _, c := range []copied{one, two} {
				eventually(t, "the other one's name", func() bool { return strings.HasPrefix(c.rival(), want) })
			}
			sessions := func() uint64 { return one.session.Place().Session + two.session.Place().Session }
			before, began := sessions(), time.Now()
			for _, c := range []copied{one, two} {
				eventually(t, "its turn", func() bool {
					r := c.Send(t.Context(), "M", uplinktest.Events("M", 1, 1))
					return len(r) == 1 && r[0].Status == plant.Delivered
				})
			}
			eventually(t, "some turns", func() bool { return sessions() >= before+4 })
			// One may begin as the count does, each later one rests before.
			if took := time.Since(began); took < 3*rest-rest/2 {
				t.Errorf("%d sessions in %v, with a rest of %v before each", sessions()-before, took, rest)
			}
			for _, c := range []copied{one, two} {
				told := c.log.FilterMessageSnippet("with one client_id").All()
				named := 0
				for _, e := range told {
					if strings.HasPrefix(fmt.Sprint(e.ContextMap()["who"]), want) {
						named++
					}
				}
				if named != 1 || len(told) > 2 {
					t.Errorf("the log names the other one %d times in %+v", named, told)
				}
			}
			if err := one.Close(); err != nil {
				t.Error(err)
			}
			eventually(t, "the other one to be forgotten", func() bool { return two.rival() == "" })
			if n := two.log.FilterMessageSnippet("no other client").Len(); n != 1 {
				t.Errorf("the log says %d times that the other one is gone", n)
			}
		})
	}
}
