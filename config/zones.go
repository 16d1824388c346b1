package config

import (
	_ "embed"
	"slices"
	"strings"
	"time"
)

// zones are the names of the time zones that are part of the binary, one a line.
//
//go:embed zones.txt
var zones string

// checkZone refuses a time zone that nobody knows.
func checkZone(name string) error {
	if _, err := time.LoadLocation(name); err == nil && name != "Local" {
		return nil
	}
	remedy := "write an IANA name, for example Europe/Lisbon"
	if meant, ok := zoneMeant(name); ok {
		remedy = "did you mean " + meant + "?"
	}
	return Field("timezone", "unknown time zone `"+shorten(name)+"`", remedy)
}

// zoneMeant is the zone that a name was most likely meant to be: in other
// letters, by its city alone, or misspelt.
func zoneMeant(name string) (meant string, ok bool) {
	all := strings.Fields(zones)
	name = strings.ReplaceAll(strings.TrimSpace(name), " ", "_")
	for _, zone := range all {
		if strings.EqualFold(zone, name) || strings.EqualFold(zone[strings.LastIndexByte(zone, '/')+1:], name) && name != "" {
			return zone, true
		}
	}
	// Those without a place are abbreviations, which are all alike.
	places := slices.DeleteFunc(all, func(zone string) bool { return !strings.Contains(zone, "/") })
	return Nearest(name, places)
}
