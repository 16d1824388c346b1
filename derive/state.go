package derive

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-edge/sluice/derive/attach"
	"github.com/sluice-edge/sluice/derive/counter"
	"github.com/sluice-edge/sluice/derive/dosing"
	"github.com/sluice-edge/sluice/derive/material"
	"github.com/sluice-edge/sluice/derive/operation"
	"github.com/sluice-edge/sluice/derive/parameters"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/derive/serial"
	"github.com/sluice-edge/sluice/derive/startstop"
	"github.com/sluice-edge/sluice/plant"
)

// stateVersion is the version of the encoded State. Decode reads it and all
// before it.
const stateVersion = 1

// State is what the rules of one machine remember. Step never changes the State
// that it is given. The zero State knows nothing; Model.Decode makes one.
type State struct {
	counter    counter.State
	startstop  startstop.State
	parameters parameters.State
	order      orderState
	mode       modeState
	shifts     shiftState
	dosing     []dosingState
	weighed    []dosing.LiveState
	material   material.State
	serial     serial.State
	attach     attach.State
	operation  operation.State
	beat       beatState
	values     valuesState
	gateway    gatewayState
	// held are records that wait for the order, the oldest first. It is never
	// changed in place.
	held []heldRecord
	// stray are keyed values that no rule of the Model owns.
	stray []string
	ready bool
	// uncounted is set by Decode where the counts have not begun.
	uncounted bool
}

// gatewayState is what is known of the gateway's clock and of devices.
type gatewayState struct {
	// Lost are devices that do not answer.
	Lost []lostDevice `json:"lost,omitempty"`
	// Overflowed are devices that have lost values, with when an event said so.
	Overflowed []lostDevice `json:"overflowed,omitempty"`
	// Unsteady are devices of which an alarm says that they come and go. It is
	// never changed in place.
	Unsteady []plant.DeviceID `json:"unsteady,omitempty"`
	// Step waits to be marked on the next event; Uncertain marks each.
	Step      time.Duration `json:"step,omitempty"`
	Uncertain bool          `json:"uncertain,omitempty"`
	// Rebase waits to be marked on the next counter event: the store has lost
	// counts, or the state that they came from.
	Rebase bool `json:"rebase,omitempty"`
	// Stood is set until the first step after a start: nobody looked at any device
	// while the gateway did not run.
	Stood bool `json:"stood,omitempty"`
	// Large is set while texts are left out because no event can hold them. It is
	// never changed in place.
	Large *largeInput `json:"large,omitempty"`
}

// lostDevice is a device that does not answer.
type lostDevice struct {
	Device plant.DeviceID `json:"d"`
	At     rule.Stamp     `json:"t"`
	Cause  string         `json:"c,omitempty"`
	// Told is set once an event has said that the machine is not observed.
	Told bool `json:"told,omitempty"`
}

// copyFrom makes s equal to o without sharing memory with it, reusing its own.
func (s *State) copyFrom(o *State) {
	s.counter.CopyFrom(&o.counter)
	s.startstop.CopyFrom(&o.startstop)
	s.parameters.CopyFrom(&o.parameters)
	s.order = o.order
	s.mode, s.shifts = o.mode, o.shifts
	s.values.copyFrom(&o.values)
	s.copyRecords(o)
	s.held = o.held
	s.beat = o.beat
	s.copyWeighed(o)
	s.material.CopyFrom(&o.material)
	lost, overflowed := append(s.gateway.Lost[:0], o.gateway.Lost...), append(s.gateway.Overflowed[:0], o.gateway.Overflowed...)
	s.gateway = o.gateway
	s.gateway.Lost, s.gateway.Overflowed = lost, overflowed
	s.stray = append(s.stray[:0], o.stray...)
	s.ready = o.ready
}

// shift follows a step of the gateway's clock, so that lengths stay true.
func (s *State) shift(step time.Duration) {
	s.counter.Shift(step)
	s.startstop.Shift(step)
	s.parameters.Shift(step)
	s.order.Since.Shift(step)
	s.order.At.Shift(step)
	s.order.Again.Shift(step)
	s.order.Account.At.Shift(step)
	s.mode.Since.Shift(step)
	s.shiftRecords(step)
	s.shiftHeld(step)
	if s.beat.At != 0 {
		s.beat.At += int64(step)
	}
	s.shiftWeighed(step)
	for i := range s.gateway.Lost {
		s.gateway.Lost[i].At.Shift(step)
	}
	for i := range s.gateway.Overflowed {
		s.gateway.Overflowed[i].At.Shift(step)
	}
}

// record is the encoded State. What a machine has no rule for is left out.
type record struct {
	Version    int               `json:"v"`
	Order      orderState        `json:"order,omitzero"`
	Mode       modeState         `json:"mode,omitzero"`
	Shift      shiftState        `json:"shift,omitzero"`
	Counter    *counter.State    `json:"counter,omitempty"`
	StartStop  *startstop.State  `json:"startstop,omitempty"`
	Parameters *parameters.State `json:"parameters,omitempty"`
	Dosing     []dosingState     `json:"dosing,omitempty"`
	Serial     *serial.State     `json:"serial,omitempty"`
	ItemAttach *attach.State     `json:"item_attach,omitempty"`
	Operation  *operation.State  `json:"operation,omitempty"`
	Values     *valuesState      `json:"values,omitempty"`
	Gateway    *gatewayState     `json:"gateway,omitempty"`
	Beat       beatState         `json:"beat,omitzero"`
	// Weighed are the scales whose doses are found in what they show.
	Weighed []dosing.LiveState `json:"weighed,omitempty"`
	// Material is what is loaded where.
	Material material.State `json:"material,omitzero"`
	// Held are records that wait for the order.
	Held []heldRecord `json:"held,omitempty"`
}

// Encode returns s as it is committed. Equal states give equal bytes.
func (m *Model) Encode(s *State) ([]byte, error) {
	m.fit(s)
	r := record{Version: stateVersion, Order: s.order, Mode: s.mode, Shift: s.shifts, Dosing: s.dosing, Gateway: &s.gateway, Beat: s.beat}
	r.Weighed, r.Material, r.Held = s.weighed, s.material, s.held
	if m.counter != nil {
		r.Counter = &s.counter
	}
	if m.startstop != nil {
		r.StartStop = &s.startstop
	}
	if m.parameters != nil {
		r.Parameters = &s.parameters
	}
	if m.records.serial != nil {
		r.Serial = &s.serial
	}
	if m.records.attach != nil {
		r.ItemAttach = &s.attach
	}
	if m.operation != nil {
		r.Operation = &s.operation
	}
	if m.values != nil {
		r.Values = &s.values
	}
	b, err := json.Marshal(&r)
	if err != nil {
		return nil, fmt.Errorf("derive: encode state of %s: %w", m.machine, err)
	}
	return b, nil
}

// Decode reads what Encode wrote, by this or an earlier version; nil gives the
// state of a machine that was never seen. keyed are the values that rules have
// put; those that no rule owns any more are deleted with the next step. What
// was learned from other tags than the Model's is forgotten: a counter at
// another address is a new baseline.
func (m *Model) Decode(state []byte, keyed []plant.KV) (State, error) {
	var s State
	if state != nil {
		r := record{Counter: &s.counter, StartStop: &s.startstop, Parameters: &s.parameters, Serial: &s.serial, ItemAttach: &s.attach, Operation: &s.operation, Values: &s.values, Gateway: &s.gateway}
		if err := json.Unmarshal(state, &r); err != nil {
			return State{}, fmt.Errorf("derive: decode state of %s: %w", m.machine, err)
		}
		if r.Version < 1 {
			return State{}, fmt.Errorf("derive: decode state of %s: it names no version", m.machine)
		}
		if r.Version > stateVersion {
			return State{}, fmt.Errorf("derive: decode state of %s: version %d is not known to this program, which reads up to %d: %w", m.machine, r.Version, stateVersion, errNewer)
		}
		s.order, s.mode, s.shifts, s.dosing = r.Order, r.Mode, r.Shift, r.Dosing
		s.beat = r.Beat
		s.weighed, s.material, s.held = r.Weighed, r.Material, r.Held
	}
	s.uncounted = m.counter != nil && m.counter.Fresh(&s.counter)
	m.fit(&s)
	// A loss that the store has told is no rule's: it goes with the next step, and
	// in the same commit Rebase stays until a counter event has it.
	lost := slices.ContainsFunc(keyed, func(kv plant.KV) bool { return kv.Key == plant.StoreGapKey })
	s.gateway.Rebase = s.gateway.Rebase || lost
	if lost {
		for i := range m.records.shakes {
			m.records.shakes[i].state(&s).Older = true
		}
	}
	s.stray = m.records.load(&s, keyed)
	return s, nil
}

// fit prepares a zero or decoded State for the rules, once.
func (m *Model) fit(s *State) {
	if s.ready {
		return
	}
	s.ready = true
	if m.counter != nil {
		m.counter.Fit(&s.counter)
	} else {
		s.counter = counter.State{}
	}
	if m.startstop != nil {
		m.startstop.Fit(&s.startstop)
	} else {
		s.startstop = startstop.State{}
	}
	if m.parameters != nil {
		m.parameters.Fit(&s.parameters)
	} else {
		s.parameters = parameters.State{}
	}
	m.order.fit(&s.order)
	m.fitMode(&s.mode)
	m.fitShift(&s.shifts)
	if m.records.serial == nil {
		s.serial = serial.State{}
	}
	if m.records.attach == nil {
		s.attach = attach.State{}
	}
	if m.operation == nil {
		s.operation = operation.State{}
	}
	m.values.fit(&s.values)
	m.records.fit(s)
	m.fitWeighed(s)
	m.material.Fit(&s.material)
}
