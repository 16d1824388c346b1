package derive

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/config"
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

// Options are one machine of the config. The zero value of a setting means its
// default.
type Options struct {
	// Device is meant by a tag that names none ("made" instead of "press/made").
	Device string `yaml:"device"`
	// Values are expressions over tags, for what no device says.
	Values ValuesOptions `yaml:"values"`
	// Order is the tag that holds the number of the current order.
	Order      *OrderOptions      `yaml:"order"`
	Counter    *counter.Options   `yaml:"counter"`
	StartStop  *startstop.Options `yaml:"startstop"`
	Parameters parameters.Options `yaml:"parameters"`
	// Dosing are the scales of the machine, Serial and ItemAttach its station:
	// records that the PLC hands over and waits to see acknowledged.
	Dosing     []dosing.Options `yaml:"dosing"`
	Serial     *serial.Options  `yaml:"serial"`
	ItemAttach *attach.Options  `yaml:"item_attach"`
	// Operation is the work that was done, by record or by the counter.
	Operation *operation.Options `yaml:"operation"`
	// Heartbeat is the tag that the gateway changes while it can record.
	Heartbeat *HeartbeatOptions `yaml:"heartbeat"`
	// Material are the tags that say what is loaded onto which location.
	Material material.Options `yaml:"material"`
	// Mode is what the machine is used for; production if it is not set.
	Mode plant.Mode `yaml:"mode"`
	// Shifts are the machine's own; those of the site if it has none.
	Shifts config.Shifts `yaml:"shifts"`
	// Zone is the time zone of the site, nil for UTC, and SiteShifts are its
	// shifts; both come from the site's section.
	Zone       *time.Location `yaml:"-"`
	SiteShifts config.Shifts  `yaml:"-"`
	// CommitEvery is how long changed state may wait for its commit where no
	// event takes it along; 0 means 1 s.
	CommitEvery config.Duration `yaml:"commit_every"`
	// UnobservedAfter is how long a device may be silent before an event says
	// that the machine is not observed; 0 means 1 min.
	UnobservedAfter config.Duration `yaml:"unobserved_after"`
	// MaxSkew is how far a device's clock may be off the gateway's and still
	// give events their time; 0 means 5 s.
	MaxSkew config.Duration `yaml:"max_skew"`
}

const (
	defaultCommitEvery     = time.Second
	defaultUnobservedAfter = time.Minute
	defaultMaxSkew         = 5 * time.Second
)

// OrderOptions say who knows what the machine works on. A config writes the tag
// of the number alone, or {tag: order, pattern: '\d{7}', sku: article}.
type OrderOptions struct {
	// Owner is tags (the default where there is a tag), api, webhook or "uplink
	// NAME". Whatever else says something is compared.
	Owner string `yaml:"owner"`
	// Tag holds the number.
	Tag string `yaml:"tag"`
	// Pattern is a regular expression that the whole number must match.
	Pattern string `yaml:"pattern"`
	// The tags of the rest, of the same device.
	SKU                 string `yaml:"sku"`
	ExternalID          string `yaml:"external_id"`
	Operation           string `yaml:"operation"`
	OperationExternalID string `yaml:"operation_external_id"`
	WorkCenter          string `yaml:"work_center"`
	Position            string `yaml:"position"`
	Planned             string `yaml:"planned"`
	// Source names the system that the numbers in the tags are from.
	Source string `yaml:"source"`
}

// UnmarshalText reads the short form.
func (o *OrderOptions) UnmarshalText(b []byte) error {
	o.Tag = string(b)
	return nil
}

// tagOf is a tag with the key that names it.
type tagOf struct{ key, tag string }

// tags are the tags in the order of their fields.
func (o *OrderOptions) tags() [orderFields]tagOf {
	return [orderFields]tagOf{
		{"tag", o.Tag}, {"sku", o.SKU}, {"external_id", o.ExternalID}, {"operation", o.Operation},
		{"operation_external_id", o.OperationExternalID}, {"work_center", o.WorkCenter}, {"position", o.Position}, {"planned", o.Planned},
	}
}

// Validate checks the owner and the pattern.
func (o *OrderOptions) Validate() error {
	var errs []error
	owner := o.owner()
	name, uplink := strings.CutPrefix(owner, ownerUplink+" ")
	switch {
	case owner == ownerUplink || uplink && name == "":
		errs = append(errs, config.Field("owner", "does not say which uplink", "write its name behind it, for example owner: uplink mes"))
	case !uplink && !slices.Contains([]string{ownerTags, ownerAPI, ownerWebhook}, owner):
		errs = append(errs, config.Unknown("owner", "owner", owner, []string{ownerTags, ownerAPI, ownerWebhook, ownerUplink + " NAME"}))
	case owner == ownerTags && o.Tag == "":
		errs = append(errs, config.Field("tag", "is missing, and the order comes from tags", "name the tag that holds the number, or write owner: api"))
	case owner != ownerTags && o.Source != "":
		errs = append(errs, config.Field("source", "is said by "+owner+" itself", "remove it"))
	}
	for f, t := range o.tags() {
		if owner != ownerTags && orderField(f) != orderNumber && t.tag != "" {
			errs = append(errs, config.Field(t.key, "is said by "+owner+", the owner of the order", "remove it; the number may stay as tag:, it is compared"))
		}
	}
	if _, err := regexp.Compile(o.Pattern); err != nil {
		errs = append(errs, config.Field("pattern", "is no regular expression: "+err.Error(), `write one for the whole number, for example '\d{7}'`))
	}
	return errors.Join(errs...)
}

// Validate checks what can be checked without the tags.
func (o *Options) Validate() error {
	var errs []error
	if o.Mode != "" && !slices.Contains(plant.Modes(), o.Mode) {
		var names []string
		for _, m := range plant.Modes() {
			names = append(names, string(m))
		}
		errs = append(errs, config.Unknown("mode", "mode", string(o.Mode), names))
	}
	if o.Counter == nil && o.StartStop == nil && len(o.Parameters.Rows) == 0 && o.Order == nil &&
		len(o.Dosing) == 0 && o.Serial == nil && o.ItemAttach == nil && o.Operation == nil && len(o.Material.Rows) == 0 {
		errs = append(errs, config.Field("", "the machine has no rule", "add counter:, startstop:, parameters:, order:, dosing:, serial:, item_attach: or operation:"))
	}
	errs = append(errs, config.CheckShifts("shifts", o.Shifts))
	return errors.Join(errs...)
}

// Catalog is what the checked devices offer: their tags, in the order of the
// config.
type Catalog map[plant.DeviceID][]plant.Tag

func (c Catalog) devices() []string {
	var names []string
	for d := range c {
		names = append(names, string(d))
	}
	slices.Sort(names)
	return names
}

// has reports whether the machine's own device has a tag of that name.
func (r resolver) has(name string) bool {
	return slices.ContainsFunc(r.catalog[r.fallback], func(t plant.Tag) bool { return string(t.ID) == name })
}

// resolver finds the tags that a machine names; fallback is its device.
type resolver struct {
	catalog  Catalog
	fallback plant.DeviceID
}

// find implements rule.Resolver.
func (r resolver) find(path, name string) (rule.Input, error) {
	if !strings.Contains(name, "/") && r.fallback == "" {
		return rule.Input{}, config.Field(path, fmt.Sprintf("tag `%s` does not say of which device", name), "write device/tag, or give the machine a device:")
	}
	ref := plant.ParseTagRef(name, r.fallback)
	tags, ok := r.catalog[ref.Device]
	if !ok {
		return rule.Input{}, config.Unknown(path, "device", string(ref.Device), r.catalog.devices())
	}
	for i := range tags {
		if tags[i].ID == ref.Tag {
			return rule.Input{Ref: ref, Tag: tags[i]}, nil
		}
	}
	known := make([]string, len(tags))
	for i := range tags {
		known[i] = string(tags[i].ID)
	}
	return rule.Input{}, config.Unknown(path, "tag of "+string(ref.Device), string(ref.Tag), known)
}
