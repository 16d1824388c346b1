// Package handshake is how a PLC hands over a record and gets a word that it is
// kept: the PLC offers the record behind a trigger, the gateway commits it and
// then answers. It tells a new record from one that is offered again, holds one
// that cannot be read until that is certain, and clears an answer that is of
// yesterday. It is pure: what is written is an output like an event.
package handshake

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
)

// Options are the tags and the protocol of one handshake.
type Options struct {
	// Trigger is the tag by which the PLC offers a record, Ack the one by which
	// it is answered.
	Trigger string `yaml:"trigger"`
	Ack     string `yaml:"ack"`
	// Protocol is "level" (the default: the trigger is high while a record is
	// offered, the ack is high until the trigger is low), "sequence" (the trigger
	// is a number that goes up with each record, the ack repeats it), "counter"
	// (the same, but the PLC waits for nobody), "toggle" (each change of the
	// trigger offers a record, the ack copies it) or "ring" (records stand in
	// Slots; the trigger is the number of those ever put there, the ack of those
	// kept).
	Protocol string `yaml:"protocol"`
	// Slots is the length of a ring, a power of two; the names of its fields hold
	// a #, which stands for the slot, 0 to Slots-1.
	Slots int `yaml:"slots"`
	// Lost is the tag in which the PLC counts records that its queue had no room
	// for.
	Lost string `yaml:"lost"`
	// Error answers a record that cannot be read; without it such a record is
	// acknowledged.
	Error *ErrorAnswer `yaml:"error"`
}

// ErrorAnswer is what is written for a record that cannot be read.
type ErrorAnswer struct {
	Tag string `yaml:"tag,required"`
	// Value is a whole number; 0 means 1. A sequence writes the number of the
	// refused record instead.
	Value int64 `yaml:"value"`
}

// UnmarshalText reads the short form, the tag alone.
func (e *ErrorAnswer) UnmarshalText(b []byte) error {
	e.Tag = string(b)
	return nil
}

// mostSlots bounds a ring: each slot is a record that drivers prepare for.
const mostSlots = 1024

// Given reports whether a handshake is configured at all.
func (o *Options) Given() bool {
	return o.Trigger != "" || o.Ack != "" || o.Protocol != "" || o.Error != nil || o.Slots != 0 || o.Lost != ""
}

// Validate checks what can be checked without the tags.
func (o *Options) Validate() error {
	var errs []error
	fault := func(path, problem, remedy string) { errs = append(errs, config.Field(path, problem, remedy)) }
	p, known := protocols[o.Protocol]
	if !known {
		errs = append(errs, config.Unknown("protocol", "protocol", o.Protocol, []string{"level", "sequence", "counter", "toggle", "ring"}))
	}
	if o.Trigger == "" {
		fault("trigger", "is missing", "name the tag by which the PLC offers a record")
	}
	if o.Ack == "" && known && p != counting {
		fault("ack", "is missing", "name the tag by which the gateway says that it has the record; only protocol: counter does without")
	}
	if o.Trigger != "" && o.Trigger == o.Ack {
		fault("ack", "is the trigger itself", "the PLC writes the trigger and the gateway the ack: give each a tag of its own")
	}
	if o.Error != nil && o.Trigger != "" && o.Error.Tag == o.Trigger {
		fault("error", "is the trigger itself", "give the error value a tag of its own, or that of ack")
	}
	if o.Lost != "" && (o.Lost == o.Trigger || o.Lost == o.Ack) {
		fault("lost", "is a tag of the handshake itself", "name the tag in which the PLC counts the records that it had no room for")
	}
	switch {
	case p == ring && (o.Slots < 2 || o.Slots > mostSlots || o.Slots&(o.Slots-1) != 0):
		fault("slots", fmt.Sprintf("a ring cannot have %d slots", o.Slots), fmt.Sprintf("write 2, 4, 8, 16 … up to %d: with a power of two the slot of a number stays right when the number goes round", mostSlots))
	case p != ring && o.Slots != 0:
		fault("slots", "only a ring has slots", "remove it, or write protocol: ring")
	}
	return errors.Join(errs...)
}

// Text is a text of a record: a constant, or {tag: component, values: {1: SUGAR}}.
type Text struct {
	constant string
	Tag      string `yaml:"tag,required"`
	// Values says what the device's codes mean; none means that the tag says it
	// itself.
	Values map[string]string `yaml:"values"`
}

// UnmarshalText reads the short form, a constant.
func (t *Text) UnmarshalText(b []byte) error {
	t.constant = string(b)
	return nil
}

// Constant returns the text that the config says itself, empty for a tag.
func (t *Text) Constant() string { return t.constant }

// IsZero reports whether t was not configured.
func (t *Text) IsZero() bool { return t.constant == "" && t.Tag == "" }

// Allowed reports values that t can take and that are none of allowed.
func (t *Text) Allowed(path string, allowed ...string) error {
	var errs []error
	if t.constant != "" && !slices.Contains(allowed, t.constant) {
		errs = append(errs, config.Unknown(path, path, t.constant, allowed))
	}
	for code, v := range t.Values {
		if !slices.Contains(allowed, v) {
			errs = append(errs, config.Unknown(path+".values."+code, path, v, allowed))
		}
	}
	return errors.Join(errs...)
}

// Amount is a number of a record: a constant such as 0.5, or a tag.
type Amount struct {
	constant *plant.Decimal
	Tag      string `yaml:"tag,required"`
}

// UnmarshalText reads the short form: a number, or the name of a tag.
func (a *Amount) UnmarshalText(b []byte) error {
	if d, err := plant.ParseDecimal(string(b)); err == nil {
		a.constant = &d
		return nil
	}
	a.Tag = string(b)
	return nil
}

// Constant returns the number that the config says itself, nil for a tag.
func (a *Amount) Constant() *plant.Decimal { return a.constant }

// IsZero reports whether a was not configured.
func (a *Amount) IsZero() bool { return a.constant == nil && a.Tag == "" }

// Negative reports whether a is a constant below 0.
func (a *Amount) Negative() bool { return a.constant != nil && a.constant.Unscaled < 0 }
