package config

// Section is one device, machine or uplink of the config, still undecoded.
type Section struct {
	// Name is the section's name in the config.
	Name string
	// Driver is the value of its "driver:" key; empty for a machine.
	Driver string
}

// Decode decodes the section over the struct that into points to, strictly:
// every unknown key, wrong type, bad unit and missing required field is a
// Fault. Fields are named by their yaml tag ("name" or "name,required"). Where
// no fault was found, the Validate() error methods of into and of what it holds
// are called and their FieldErrors get positions.
func (s *Section) Decode(into any) Faults { return nil }

// Faults gives the FieldErrors in err (joined or wrapped) their positions in
// this section; an error of another type is a fault of the whole section. A nil
// err gives none.
func (s *Section) Faults(err error) Faults { return nil }
