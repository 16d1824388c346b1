package mqtt

import (
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/uplinktest"
)

// tryWith tests a fresh sender and tells what was noted of it.
func tryWith(t *testing.T, o Options) (uplink.Tested, uplink.Sender) {
	t.Helper()
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	p, err := plan("broker", o)
	if err != nil {
		t.Fatal(err)
	}
	j := uplink.NewJournal("broker", func(uplink.Exchange) {})
	s := p.Open(uplink.Env{Name: "broker", Gateway: "gw", Path: "/acme/lisbon/packing", Log: zap.NewNop(), Journal: j})
	t.Cleanup(func() { s.Close() })
	return uplink.Try(t.Context(), "broker", s, j), s
}

// TestTest: the broker gets one marked message that is no event of a machine, by
// the session that events use.
func TestTest(t *testing.T) {
	b := newEmbedded(t)
	o := testOptions(b.Addr())
	got, s := tryWith(t, o)
	if !got.OK || got.Error != "" || len(got.Exchanges) != 1 || got.Exchanges[0].Where != "ev/_gateway/test" || got.Exchanges[0].Method != "PUBLISH" || got.Exchanges[0].Outcome != uplink.OutcomeTest {
		t.Fatalf("%+v", got)
	}
	if a := b.Arrivals(); len(a) != 1 || !strings.Contains(string(a[0].Body), `"test":true,"gateway":"gw"`) {
		t.Errorf("arrivals %q", a)
	}
	var all sync.WaitGroup
	for range 3 { // beside events and other tests
		all.Go(func() {
			if err := s.(uplink.Tester).Test(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	if r := s.Send(t.Context(), "M", uplinktest.Events("M", 1, 5)); len(r) != 1 || r[0].Status != plant.Delivered {
		t.Errorf("results %+v", r)
	}
	all.Wait()
}

func TestTestSaysWhatToDo(t *testing.T) {
	b := newEmbedded(t)
	b.hook.user, b.hook.password = "gateway", "right"
	o := testOptions(b.Addr())
	o.User, o.Password = "gateway", config.NewSecret("falsch-4711")
	got, _ := tryWith(t, o)
	if got.OK || !strings.Contains(got.Error, "password") || len(got.Exchanges) != 1 || strings.Contains(got.Error+got.Exchanges[0].Words, "falsch") {
		t.Errorf("%+v", got)
	}
	b.Stop()
	if got, _ := tryWith(t, testOptions(b.Addr())); got.OK || !strings.Contains(got.Error, "refused") || !strings.Contains(got.Error, "look at url") {
		t.Errorf("%+v", got)
	}
}
