// Package schematest holds events against their JSON Schemas, for tests: what a
// test makes or receives is what a receiver was promised.
package schematest

import (
	"bytes"
	"fmt"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sluice-edge/sluice/plant"
)

// Schemas are the schemas of every kind and version. They may be used from
// several goroutines.
type Schemas map[string]*jsonschema.Schema

// Load compiles the schemas. An error is a schema that is none.
func Load() (Schemas, error) {
	all := Schemas{}
	for _, kind := range plant.EventKinds() {
		for version := uint8(1); ; version++ {
			text, ok := plant.Schema(kind, version)
			if !ok && version > 1 {
				break
			}
			if !ok {
				return nil, fmt.Errorf("schematest: %s has no schema", kind)
			}
			doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
			if err != nil {
				return nil, fmt.Errorf("schematest: %s v%d: %w", kind, version, err)
			}
			c := jsonschema.NewCompiler()
			uri := plant.SchemaURI(kind, version)
			if err := c.AddResource(uri, doc); err != nil {
				return nil, fmt.Errorf("schematest: %w", err)
			}
			if all[uri], err = c.Compile(uri); err != nil {
				return nil, fmt.Errorf("schematest: %w", err)
			}
		}
	}
	return all, nil
}

// Check holds the data of an event against the schema of its kind and version.
// A kind or version without one is an error.
func (s Schemas) Check(kind plant.EventKind, version uint8, data []byte) error {
	schema := s[plant.SchemaURI(kind, version)]
	if schema == nil {
		return fmt.Errorf("there is no schema of %s v%d", kind, version)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("%s v%d: %w in %s", kind, version, err, data)
	}
	if err := schema.Validate(doc); err != nil {
		return fmt.Errorf("%s v%d: %w in %s", kind, version, err, data)
	}
	return nil
}

// Events checks all of events and returns what is wrong with the first that is.
func (s Schemas) Events(events []plant.Event) error {
	for i := range events {
		if err := s.Check(events[i].Kind, events[i].Version, events[i].Data); err != nil {
			return err
		}
	}
	return nil
}
