package uplink

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
)

// Kinds are the kinds of events that an uplink's config lets through; none
// means all.
type Kinds []plant.EventKind

// Validate returns the faults of k as config.FieldErrors, nil if there are none.
func (k Kinds) Validate() error {
	known := plant.EventKinds()
	var errs []error
	for i, kind := range k {
		if !slices.Contains(known, kind) {
			names := make([]string, len(known))
			for j := range known {
				names[j] = string(known[j])
			}
			errs = append(errs, config.Field(fmt.Sprintf("[%d]", i), fmt.Sprintf("there is no kind of event %q", kind), "use "+strings.Join(names, ", ")))
		} else if slices.Contains(k[:i], kind) {
			errs = append(errs, config.Field(fmt.Sprintf("[%d]", i), fmt.Sprintf("%q is named twice", kind), "name it once"))
		}
	}
	return errors.Join(errs...)
}

// Carry reports whether events of that kind are let through. A gap always is:
// no loss is silent.
func (k Kinds) Carry(kind plant.EventKind) bool {
	return len(k) == 0 || kind == plant.KindGap || slices.Contains(k, kind)
}
