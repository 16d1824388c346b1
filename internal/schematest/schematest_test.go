package schematest

import (
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/plant"
)

func TestCheck(t *testing.T) {
	s, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	if len(s) < len(plant.EventKinds()) {
		t.Fatalf("%d schemas of %d kinds", len(s), len(plant.EventKinds()))
	}
	good := plant.Event{Kind: plant.KindAlarm, Version: 1, Data: []byte(`{"machine":"PRESS-01","mode":"production","alarm":"held","raised":true,"text":"was refused"}`)}
	if err := s.Events([]plant.Event{good, good}); err != nil {
		t.Error(err)
	}
	for want, e := range map[string]plant.Event{
		"raised":             {Kind: plant.KindAlarm, Version: 1, Data: []byte(`{"machine":"PRESS-01","mode":"production","alarm":"held","raised":"yes","text":"x"}`)},
		"no schema of alarm": {Kind: plant.KindAlarm, Version: 99, Data: good.Data},
		"no schema of count": {Kind: "count", Version: 1, Data: good.Data},
		"alarm v1: ":         {Kind: plant.KindAlarm, Version: 1, Data: []byte(`{"machine":`)},
	} {
		if err := s.Events([]plant.Event{good, e}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
