package derive

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// HeartbeatOptions name the tag that the gateway changes for as long as it can
// record, so that the PLC can raise an alarm of its own. A config writes the tag
// alone, or {tag: alive, every: 5s}.
type HeartbeatOptions struct {
	Tag string `yaml:"tag,required"`
	// Every is the time between two changes; 0 means 10 s.
	Every config.Duration `yaml:"every"`
}

const (
	defaultBeat = 10 * time.Second
	// shortestBeat spares the disk: each change is written behind a commit.
	shortestBeat = time.Second
)

// UnmarshalText reads the short form.
func (o *HeartbeatOptions) UnmarshalText(b []byte) error {
	o.Tag = string(b)
	return nil
}

// Validate checks the time.
func (o *HeartbeatOptions) Validate() error {
	if every := o.Every.Std(); every != 0 && every < shortestBeat {
		return config.Field("every", fmt.Sprintf("%s is too often: each change waits for the disk", every), "write 1s or more; 10s is the default")
	}
	return nil
}

// heartbeat is the rule. It counts the tag up behind a commit of its own: what
// cannot be committed does not beat.
type heartbeat struct {
	input rule.Input
	every time.Duration
}

func newHeartbeat(o HeartbeatOptions, records *recordRules, resolve rule.Resolver) (*heartbeat, error) {
	in, err := resolve("tag", o.Tag)
	if err != nil {
		return nil, err
	}
	var errs []error
	fault := func(problem, remedy string) { errs = append(errs, config.Field("tag", problem, remedy)) }
	switch t := in.Tag; {
	case t.Type == plant.TypeUnknown:
		fault(fmt.Sprintf("nothing says what is in tag %s", in.Ref), "write its type at the device, for example type: uint16")
	case t.Type != plant.TypeBool && (t.Type.Bits() == 0 || t.Scaled):
		fault(fmt.Sprintf("tag %s is of type %s, which does not count", in.Ref, t.Type), "name a tag of a whole-number type, or a bit")
	case !t.Writable:
		fault(fmt.Sprintf("tag %s may not be written", in.Ref), "write writable: true at the device")
	}
	for _, s := range records.shakes {
		for _, rec := range s.rule.Records() {
			if rec.Device == in.Ref.Device && (slices.Contains(rec.Fields, in.Ref.Tag) || slices.Contains(s.rule.Polled(), in.Ref)) {
				fault(fmt.Sprintf("tag %s belongs to the handshake of %s", in.Ref, s.rule.Name()), "give the heartbeat a tag of its own")
				return nil, errors.Join(errs...)
			}
		}
	}
	h := &heartbeat{input: in, every: o.Every.Std()}
	if h.every == 0 {
		h.every = defaultBeat
	}
	return h, errors.Join(errs...)
}

// beatState is what is remembered of the heartbeat.
type beatState struct {
	// Value was written last, at At, 0 for never.
	Value int64 `json:"v,omitempty"`
	At    int64 `json:"t,omitempty"`
	// session is that of the newest scan of the device, 0 while it is away; shown
	// is what the tag said before its first beat, and fresh is set until then.
	// They are found again after a start.
	session uint64
	shown   int64
	fresh   bool
}

// hear notes a scan of the device: only then there is somebody to write to.
func (r *run) hear(in *plant.Scan) {
	h := r.m.heartbeat
	if h == nil || in.Device != h.input.Ref.Device {
		return
	}
	s := &r.s.beat
	s.fresh = s.fresh || s.session != in.Session
	s.session = in.Session
	for i := range in.Readings {
		if v := &in.Readings[i]; v.Tag == h.input.Ref.Tag && v.Quality == plant.Good {
			s.shown, _ = v.Value.Int()
		}
	}
	r.beat()
}

// beat changes the tag when it is time.
func (r *run) beat() {
	h, s := r.m.heartbeat, &r.s.beat
	if h == nil || s.session == 0 || r.now < s.At+int64(h.every) {
		return
	}
	next := h.after(s.Value)
	if s.fresh && next == s.shown { // the PLC would see no change
		next = h.after(next)
	}
	s.Value, s.At, s.fresh = next, r.now, false
	value := plant.IntValue(next)
	if h.input.Tag.Type == plant.TypeBool {
		value = plant.BoolValue(next != 0)
	}
	r.changed = true
	r.Write(plant.Write{Device: h.input.Ref.Device, Session: s.session, Tag: h.input.Ref.Tag, Value: value})
}

// after counts within what the tag holds, without a sign.
func (h *heartbeat) after(n int64) int64 {
	bits := h.input.Tag.Type.Bits()
	if h.input.Tag.Type == plant.TypeBool {
		bits = 1
	} else if h.input.Tag.Type.Signed() || bits == 64 {
		bits--
	}
	return (n + 1) & (1<<bits - 1)
}

// wake returns when the tag is changed next, 0 for not at all.
func (h *heartbeat) wake(s *beatState) int64 {
	if h == nil || s.session == 0 {
		return 0
	}
	return s.At + int64(h.every)
}

// deaf notes that a device is away.
func (r *run) deaf(d plant.DeviceID) {
	if h := r.m.heartbeat; h != nil && h.input.Ref.Device == d {
		r.s.beat.session = 0
	}
}
