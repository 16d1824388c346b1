package derive

import (
	"maps"
	"slices"

	"github.com/sluice-edge/sluice/config"
)

// DowntimeType returns what the system behind an uplink calls the downtime type
// of a stop with this reason, the raw code of its event; "" is a stop without
// one. own says that the machine's tables name this uplink for it; else the name is
// ours. It goes by the tables of now, also for events from before they were
// changed. The name is empty for a machine without start/stop. It may be called
// from any goroutine.
func (m *Model) DowntimeType(uplink, reason string) (name string, own bool) {
	if m.startstop == nil {
		return "", false
	}
	return m.startstop.TypeFor(uplink, reason)
}

// Names returns the option of the machine that names an uplink first, joined to
// paths of the machine; empty if its tables do not name it.
func (m *Model) Names(uplink string) string {
	if m.startstop == nil || m.startstop.Uplinks()[uplink] == "" {
		return ""
	}
	return "startstop." + m.startstop.Uplinks()[uplink]
}

// CheckUplinks returns a config.FieldError for each uplink that the machine's
// tables name and that is none of known, joined to paths of the machine.
func (m *Model) CheckUplinks(known []string) (errs []error) {
	if m.startstop == nil {
		return nil
	}
	named := m.startstop.Uplinks()
	for _, name := range slices.Sorted(maps.Keys(named)) {
		if !slices.Contains(known, name) {
			errs = append(errs, config.Unknown("startstop."+named[name], "uplink", name, known))
		}
	}
	return errs
}
