package admin

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/sluice-edge/sluice/internal/audit"
	"github.com/sluice-edge/sluice/plant"
)

// stuck are rules that cannot record: their disk is full.
type stuck struct{}

func (stuck) Now() time.Time { return time.Now() }

func (stuck) Modes() []MachineMode {
	return []MachineMode{{Machine: "M1", Mode: plant.Production, Configured: plant.Production}}
}

func (stuck) Submit(ctx context.Context, _ plant.MachineID, _ plant.Input) error {
	<-ctx.Done()
	return ctx.Err()
}

// A change that cannot be recorded is answered in time, and the audit log says
// that it failed.
func TestAModeThatIsNotRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		folder := t.TempDir()
		log := audit.New(folder, audit.Options{})
		s := NewServer(Options{Audit: log, Rules: stuck{}, Log: zaptest.NewLogger(t)})
		began := time.Now()
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1/mode", strings.NewReader(`{"machine":"M1","mode":"setup"}`)))
		if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "it may still be done") || time.Since(began) != recordFor {
			t.Errorf("%d after %s: %s", w.Code, time.Since(began), w.Body)
		}
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
		outcomes := ""
		if err := audit.Read(folder, func(r audit.Record, err error) error {
			outcomes += r.Action + " " + r.Outcome + "; "
			return err
		}); err != nil || outcomes != "mode.set begun; mode.set failed; " {
			t.Errorf("the audit log: %s, %v", outcomes, err)
		}
	})
}

func TestModesOfAStoppedGateway(t *testing.T) {
	b := openBed(t, t.TempDir(), false)
	var refused *Error
	for path, do := range map[string]func() error{
		"/modes": func() error { return b.Get(t.Context(), "/modes", nil, new([]MachineMode)) },
		"/mode": func() error {
			return b.Post(t.Context(), "/mode", map[string]string{"machine": "A", "mode": "setup"}, new(MachineMode))
		},
	} {
		if err := do(); !errors.As(err, &refused) || refused.Status != http.StatusConflict {
			t.Errorf("%s: %v", path, err)
		}
	}
	if got := b.audited(); len(got) != 0 {
		t.Errorf("a refusal is in the audit log: %v", got)
	}
}
