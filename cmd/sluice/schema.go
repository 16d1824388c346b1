package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"reflect"
	"strings"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/docs"
	"github.com/sluice-edge/sluice/internal/kind"
	"github.com/sluice-edge/sluice/plant"
)

// schemaCmd prints what other programs check by: editors the config, receivers
// the events.
type schemaCmd struct {
	Config schemaConfigCmd `cmd:"" help:"Print the JSON Schema of the config, for editors."`
	Events schemaEventsCmd `cmd:"" help:"Print the JSON Schemas of the events' data, for receivers."`
}

// schemaConfigCmd prints the schema of the config.
type schemaConfigCmd struct {
	Fragment bool `help:"For one file of a config folder: no section has to be in it."`
}

// Run prints the schema as one JSON document.
func (s *schemaConfigCmd) Run(c *console) error {
	return printJSON(c.Out, configSchema(s.Fragment))
}

// configSchema is the schema of a config for this binary, with its protocols and
// dialects.
func configSchema(fragment bool) map[string]any {
	keys := docs.ConfigKeys()
	describe := func(of reflect.Type, key string) config.Described {
		k := keys[headingOf(of)][key]
		return config.Described{Text: k.Text(), Words: k.Words()}
	}
	return config.Schema(parts(driverKinds), parts(uplinkKinds), config.Part{Options: derive.Options{}}, config.Part{Options: lineKind.Defaults()}, describe, fragment)
}

// documentedIn says under which heading of docs/config.md the keys of a type
// are; those of a protocol's or dialect's own Options are under its "driver: name".
var documentedIn = map[string]string{
	"config.Site":             "`site`",
	"config.Buffer":           "`buffer`",
	"config.HTTP":             "`http`",
	"config.Log":              "`log`",
	"line.Tag":                "A field",
	"modbus.LineOptions":      "`lines`",
	"modbus.RS485":            "rs485",
	"modbus.Tag":              "A tag",
	"opcua.Channel":           "channel",
	"opcua.Login":             "login",
	"opcua.Tag":               "A node",
	"derive.Options":          "`machines`",
	"derive.OrderOptions":     "order",
	"derive.ValueOptions":     "values",
	"counter.Options":         "counter",
	"startstop.Options":       "startstop",
	"startstop.Running":       "startstop",
	"startstop.PackML":        "packml",
	"startstop.Stops":         "stops",
	"startstop.ReasonCode":    "startstop",
	"parameters.Parameter":    "parameters",
	"config.Shift":            "Shifts",
	"uplink.Options":          "Every uplink",
	"httplink.Settings":       "Every uplink over HTTP",
	"httplink.Auth":           "auth",
	"httplink.Basic":          "basic",
	"httplink.APIKey":         "api_key",
	"httplink.OAuth2":         "oauth2",
	"httplink.Signature":      "sign",
	"rest.Answer":             "answer",
	"rest.Request":            "requests",
	"rest.List":               "list",
	"prodsmart.Movements":     "movements",
	"prodsmart.Stock":         "stock",
	"prodsmart.Component":     "A component in Prodsmart",
	"nextplus.Doses":          "doses",
	"nextplus.Component":      "A component at the ERP",
	"uplink.CodeTables":       "codes",
	"uplink.Code":             "A code of the other side",
	"handshake.Options":       "A handshake",
	"handshake.ErrorAnswer":   "A handshake",
	"handshake.Text":          "A handshake",
	"handshake.Amount":        "A handshake",
	"dosing.Options":          "dosing",
	"dosing.ScaleOptions":     "dosing",
	"dosing.Weight":           "dosing",
	"dosing.Stable":           "dosing",
	"serial.Options":          "serial",
	"attach.Options":          "item_attach",
	"attach.Item":             "item_attach",
	"operation.Options":       "operation",
	"derive.HeartbeatOptions": "heartbeat",
	"material.Hopper":         "material",
}

// headingOf returns the heading of docs/config.md that the keys of a type are
// under.
func headingOf(of reflect.Type) string {
	if heading, ok := documentedIn[of.String()]; ok {
		return heading
	}
	return "`driver: " + path.Base(of.PkgPath()) + "`"
}

func parts[P any](kinds kind.Registry[P]) []config.Part {
	var out []config.Part
	for _, name := range kinds.Names() {
		if k, ok := kinds.Lookup(name); ok {
			out = append(out, config.Part{Driver: name, Options: k.Defaults()})
		}
	}
	return out
}

// schemaEventsCmd prints the schemas of the events.
type schemaEventsCmd struct {
	Kind string `arg:"" optional:"" help:"The kind of event, for example counter; all kinds by default."`
}

// Run prints the newest schema of the kind, or a bundle of those of every kind and
// version, as one JSON document.
func (s *schemaEventsCmd) Run(c *console) error {
	if s.Kind == "" {
		return printJSON(c.Out, eventSchemas())
	}
	versions := versionsOf(plant.EventKind(s.Kind))
	if len(versions) == 0 {
		var known []string
		for _, k := range plant.EventKinds() {
			known = append(known, string(k))
		}
		return &exitError{exitUsage, fmt.Errorf("schema: there is no kind of event %q — use %s", s.Kind, strings.Join(known, ", "))}
	}
	return printJSON(c.Out, versions[len(versions)-1])
}

// versionsOf returns the schemas of a kind, the newest last.
func versionsOf(k plant.EventKind) []json.RawMessage {
	var out []json.RawMessage
	for version := uint8(1); ; version++ {
		b, ok := plant.Schema(k, version)
		if !ok {
			return out
		}
		out = append(out, b)
	}
}

// eventSchemas bundles the schemas of all events as JSON Schema 2020-12 does in
// its section 9.3: each stays found under its own $id. It does not say "any of
// them": data does not name its kind, and schemas that let further fields come
// later would take the data of each other.
func eventSchemas() map[string]any {
	defs := make(map[string]json.RawMessage)
	for _, k := range plant.EventKinds() {
		for i, b := range versionsOf(k) {
			defs[fmt.Sprintf("%s.v%d", k, i+1)] = b
		}
	}
	return map[string]any{
		"$schema":     "https://json-schema.org/draft/2020-12/schema",
		"title":       "The data of each event of a Sluice gateway",
		"description": "Validate data by the definition of its event's kind and version, not by this document.",
		"$defs":       defs,
	}
}

// printJSON writes v indented, for people, too.
func printJSON(w io.Writer, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("schema: encode: %w", err)
	}
	_, err := w.Write(b.Bytes())
	return err
}
