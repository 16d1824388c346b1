package driverstest

import (
	"testing"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// records reads until a record was there, or, if none is wanted, as often as a
// polling driver needs to show that there is none.
func (r *rig) records(t *testing.T, want bool) (found []plant.Scan) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		scans, err := r.read(t)
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range scans {
			if s.Record == "" {
				continue
			}
			if i == 0 && !r.Subscribing {
				t.Error("the record comes before the scan that shows its trigger")
			}
			found = append(found, s)
		}
		if want == (len(found) > 0) {
			return found
		}
		if !want {
			t.Fatalf("a record that nobody offers: %+v", found)
		}
	}
	t.Fatal("the record that is offered was not read")
	return nil
}

// record holds a driver to drivers.Driver.Read: a level trigger offers a
// record for as long as it is high, in each session.
func record(t *testing.T, r *rig) {
	if r.Record.ID == "" {
		t.Skip("the driver reads no records")
	}
	check := func(scans []plant.Scan) {
		t.Helper()
		for _, s := range scans {
			if s.Record != r.Record.ID || s.Final || s.Device != Device || s.Session != r.session || s.Snapshot || s.Received.IsZero() {
				t.Errorf("record %+v", s)
			}
			if len(s.Readings) != len(r.Record.Fields) {
				t.Fatalf("%d fields, want %d", len(s.Readings), len(r.Record.Fields))
			}
			for i, v := range s.Readings {
				tag := r.Record.Fields[i]
				if v.Tag != tag || v.Quality != plant.Good || v.Value != r.Values[tag] {
					t.Errorf("field %d is %s = %v (%v %s), want %s = %v", i, v.Tag, v.Value, v.Quality, v.Cause, tag, r.Values[tag])
				}
			}
		}
	}
	r.connect(t)
	r.mustRead(t)
	if !r.Subscribing { // a subscribing driver would wait for what does not come
		r.records(t, false)
	}
	r.server.Set(r.Record.Trigger, r.Offered)
	check(r.records(t, true))
	check(r.records(t, true))
	if err := r.driver.Close(); err != nil {
		t.Fatal(err)
	}
	r.connect(t)
	check(r.records(t, true))
	answer := r.Record.Writes[0]
	if err := r.write(t, r.session, answer, r.Offered); err != nil {
		t.Errorf("the answer needs no word in the config: %v", err)
	}
	r.await(t, answer, r.Offered)
	r.server.Set(r.Record.Trigger, r.Values[r.Record.Trigger])
	if !r.Subscribing {
		r.records(t, false)
		return
	}
	// Once the fall was reported, other tags go on without the record.
	r.await(t, r.Record.Trigger, r.Values[r.Record.Trigger])
	r.server.Set(r.Changing, r.NewValue)
	for {
		scans, err := r.read(t)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range scans {
			if s.Record != "" {
				t.Fatalf("a record that nobody offers: %+v", s)
			}
			for _, reading := range s.Readings {
				if reading.Tag == r.Changing {
					return
				}
			}
		}
	}
}

// changedText holds a driver to plant.OnChange: the first Read of a session and
// each change of the trigger, also of a text, are one record, all of whose fields
// are as they were then.
func changedText(t *testing.T, r *rig) {
	if r.Order.ID == "" {
		t.Skip("the driver reads no records")
	}
	r.driver = r.OpenOrder(t, r.proxy.Addr())
	t.Cleanup(func() { r.driver.Close() })
	once := func(want plant.Value) {
		t.Helper()
		found := r.records(t, true)
		if len(found) != 1 || found[0].Record != r.Order.ID || !found[0].Final || found[0].Session != r.session || found[0].Snapshot || found[0].Asked.IsZero() || found[0].Asked.After(found[0].Received) {
			t.Fatalf("got %+v, want the record once", found)
		}
		for i, tag := range r.Order.Fields {
			v, value := found[0].Readings[i], r.Values[tag]
			if tag == r.Order.Trigger {
				value = want
			}
			if v.Tag != tag || v.Quality != plant.Good || v.Value != value {
				t.Errorf("field %d is %s = %v (%v %s), want %s = %v", i, v.Tag, v.Value, v.Quality, v.Cause, tag, value)
			}
		}
		// What does not change is not read again, though other tags go on.
		for n := range int64(3) {
			made := plant.UintValue(uint64(n) + 10)
			r.server.Set(r.Changing, made)
			r.unread(t, made)
		}
	}
	r.connect(t)
	once(r.Values[r.Order.Trigger])
	r.server.Set(r.Order.Trigger, r.Changed)
	once(r.Changed)
	if err := r.driver.Close(); err != nil {
		t.Fatal(err)
	}
	r.connect(t)
	once(r.Changed)
}

// unread reads until Changing has a value, and wants no record on the way.
func (r *rig) unread(t *testing.T, value plant.Value) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		scans, err := r.read(t)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range scans {
			if s.Record != "" {
				t.Fatalf("a record of what did not change: %+v", s)
			}
			for _, v := range s.Readings {
				if v.Tag == r.Changing && v.Value == value {
					return
				}
			}
		}
	}
	t.Fatalf("%s never became %v", r.Changing, value)
}
