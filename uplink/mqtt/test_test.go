package mqtt

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/mqttsession"
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
	if strings.Contains(got.Error, "look at url") || !strings.Contains(got.Error, "check the password") {
		t.Errorf("what the broker refused has a remedy of its own: %s", got.Error)
	}
	b.Stop()
	if got, _ := tryWith(t, testOptions(b.Addr())); got.OK || !strings.Contains(got.Error, "refused") || !strings.Contains(got.Error, "look at url") {
		t.Errorf("%+v", got)
	}
}

// While another client is left in peace nothing of the settings but the client_id is
// at fault.
func TestATestDuringATakeOver(t *testing.T) {
	rest := &mqttsession.WaitError{Err: errors.New(`another gateway "edge-7" uses the client_id "c" too`), For: 7400 * time.Millisecond, Taken: true}
	got := testFailure(t.Context(), rest).Error()
	if !strings.Contains(got, "its own client_id; the next try is in 7s") || strings.Contains(got, "password") || strings.Contains(got, "url") {
		t.Errorf("%q", got)
	}
}
