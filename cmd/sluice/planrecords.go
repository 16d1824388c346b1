package main

import (
	"errors"
	"slices"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/plant"
)

// records refuses handshake records that their device cannot give. What a
// driver says of a tag is said where the machine names it.
func (k *checker) records() {
	for i, m := range k.plan.Machines {
		for _, r := range m.Records() {
			at := slices.IndexFunc(k.plan.Devices, func(d devicePlan) bool { return d.Name == r.Device })
			if check := k.plan.Devices[at].Plan.CheckRecords; check != nil {
				k.faults = append(k.faults, k.plan.Config.Machines[i].Faults(k.placed(m, r, check([]plant.Record{r})))...)
				continue
			}
			k.faults = append(k.faults, k.plan.Config.Machines[i].Faults(config.Field(m.RecordPath(r.ID, ""),
				"devices of the driver of `"+string(r.Device)+"` hand over no records", "use a device whose driver does"))...)
		}
	}
}

// rereads notes which orders can be read again together with what counts, and
// warns of the others: the machine does without.
func (k *checker) rereads() {
	for i, m := range k.plan.Machines {
		r, ok := m.OrderRecord()
		if !ok {
			continue
		}
		at := slices.IndexFunc(k.plan.Devices, func(d devicePlan) bool { return d.Name == r.Device })
		check := k.plan.Devices[at].Plan.CheckRecords
		if check == nil {
			continue // the device comes to the gateway by itself: nobody can ask it
		}
		faults := k.plan.Config.Machines[i].Faults(check([]plant.Record{r}))
		if len(faults.Errors()) == 0 {
			k.plan.Rereads = append(k.plan.Rereads, r)
		}
		if len(faults) > 0 {
			k.faults = append(k.faults, k.plan.Config.Machines[i].Faults(config.Warn("order",
				"the order and what counts cannot be read in one request when the order changes: "+faults[0].Problem,
				faults[0].Remedy+"; as it is, pieces of one poll may be counted to the wrong order"))...)
		}
	}
}

// placed moves the errors of a driver, whose paths are tags, to the places where
// the machine names these tags.
func (k *checker) placed(m *derive.Model, r plant.Record, err error) error {
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		var errs []error
		for _, inner := range e.Unwrap() {
			errs = append(errs, k.placed(m, r, inner))
		}
		return errors.Join(errs...)
	case *config.FieldError:
		moved := *e
		moved.Path = m.RecordPath(r.ID, plant.TagID(e.Path))
		return &moved
	default:
		return err
	}
}

// answers refuses a tag that two machines answer with, and one that the PLC
// writes for a record: a tag has one writer.
func (k *checker) answers() {
	by := make(map[plant.TagRef]plant.MachineID)
	offered := k.offered()
	for i, m := range k.plan.Machines {
		for _, r := range m.Records() {
			for _, tag := range r.Writes {
				ref := plant.TagRef{Device: r.Device, Tag: tag}
				if other, taken := by[ref]; taken && other != m.Machine() {
					k.faults = append(k.faults, k.plan.Config.Machines[i].Faults(config.Field(m.RecordPath(r.ID, tag),
						"tag `"+ref.String()+"` answers a record of "+string(other)+" already", "give each handshake a tag of its own"))...)
				}
				by[ref] = m.Machine()
				if of, is := offered[ref]; is {
					k.faults = append(k.faults, k.plan.Config.Machines[i].Faults(config.Field(m.RecordPath(r.ID, tag),
						"tag `"+ref.String()+"` is what the PLC itself writes for "+of, "the PLC writes the trigger and the record, the gateway the ack: give each a tag of its own"))...)
				}
			}
		}
	}
}

// offered returns the tags that PLCs write for records, each with the record.
func (k *checker) offered() map[plant.TagRef]string {
	all := make(map[plant.TagRef]string)
	for _, m := range k.plan.Machines {
		for _, r := range m.Records() {
			for _, tag := range append([]plant.TagID{r.Trigger}, r.Fields...) {
				all[plant.TagRef{Device: r.Device, Tag: tag}] = "a record of " + string(m.Machine())
			}
		}
	}
	return all
}
