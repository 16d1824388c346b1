package counter

import (
	"reflect"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/derive/rule"
)

// stamps calls do with each time that a state holds, and makes the slices hold one.
func stamps(v reflect.Value, path string, do func(path string, at *rule.Stamp)) {
	switch at, ok := v.Addr().Interface().(*rule.Stamp); {
	case ok:
		do(path, at)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				stamps(v.Field(i), path+"."+f.Name, do)
			}
		}
	case v.Kind() == reflect.Slice:
		if v.Len() == 0 {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		}
		stamps(v.Index(0), path, do)
	}
}

// Each time that a state holds follows the gateway's clock: one that is forgotten makes
// lengths wrong by the step.
func TestShiftMovesEachTime(t *testing.T) {
	var s State
	all := 0
	stamps(reflect.ValueOf(&s).Elem(), "", func(_ string, at *rule.Stamp) {
		all++
		at.At = int64(time.Hour) + int64(all)
	})
	if all < 15 {
		t.Fatalf("only %d times are found", all)
	}
	s.Shift(time.Minute)
	n := 0
	stamps(reflect.ValueOf(&s).Elem(), "", func(path string, at *rule.Stamp) {
		n++
		if at.At != int64(time.Hour+time.Minute)+int64(n) {
			t.Errorf("%s stays behind", path)
		}
	})
}
