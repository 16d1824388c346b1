package mqtt

import (
	"crypto/tls"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/uplinktest"
)

// TestWhatEndsIsTold: the certificates of the broker and of the gateway, once they
// have met.
func TestWhatEndsIsTold(t *testing.T) {
	ours := uplinktest.NewAuthority(t)
	soon, later := time.Now().Add(30*time.Minute).Truncate(time.Second), time.Now().Add(90*time.Minute).Truncate(time.Second)
	broker := ours.Issue(t, "broker", soon, "127.0.0.1")
	ours.Issue(t, "gateway", later)
	b := newEmbedded(t, func(b *embedded) {
		b.tls = &tls.Config{Certificates: []tls.Certificate{broker}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.Pool(t)}
	})
	o := testOptions(b.Addr())
	o.URL, o.CA, o.Cert, o.Key = "tls://"+b.Addr(), ours.CA(), ours.Cert("gateway"), ours.Key("gateway")
	o.ConnectTimeout = config.Duration(5 * time.Second)
	p, err := plan("mes", o)
	if err != nil {
		t.Fatal(err)
	}
	told := uplink.NewExpiries()
	s := p.Open(uplink.Env{Name: "mes", Gateway: "gw", Path: "/a/b/c", Log: zap.NewNop(), Expiries: told, Memory: func(string) ([]byte, error) { return nil, nil }})
	defer s.Close()
	if r := s.Send(t.Context(), "M", uplinktest.Events("M", 1, 1)); len(r) != 1 || r[0].Status != plant.Delivered {
		t.Fatalf("results %+v", r)
	}
	list := told.List()
	if len(list) != 2 || list[0].What != "the certificate of "+b.Addr() || !list[0].At.Equal(soon) || list[1].What != "the certificate of the gateway (cert)" || !list[1].At.Equal(later) {
		t.Errorf("got %+v, want %v and %v", list, soon, later)
	}
}
