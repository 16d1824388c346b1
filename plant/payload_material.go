package plant

import "time"

// Movement is the data of a KindRefill, KindRemoval or KindReceipt event:
// material came to a location, left it without being dosed (cleaning, a sample),
// or arrived at the plant. Quantity is exact, in Unit, and above 0.
type Movement struct {
	Head
	// Component is the material definition; empty if nobody knows, which is
	// flagged.
	Component string  `json:"component"`
	Quantity  Decimal `json:"quantity"`
	Unit      string  `json:"unit,omitempty"`
	Lot       string  `json:"lot,omitempty"`
	// Location is the hopper, feeder or store.
	Location string    `json:"location,omitempty"`
	Time     time.Time `json:"time"`
	// Scale and Weights are those of a movement that was weighed.
	Scale   string   `json:"scale,omitempty"`
	Weights *Weights `json:"weights,omitempty"`
	// Estimated: worked out, not weighed.
	Estimated bool `json:"estimated,omitempty"`
	// Flagged names what a person should look at, for example "gap": nobody
	// looked while it happened.
	Flagged []string `json:"flagged,omitempty"`
	// By is who or what said so, where that is not a scale.
	By string `json:"by,omitempty"`
}

// Material is the data of a KindMaterial event: a component was loaded onto a
// hopper, feeder or reel. Doses from there without a lot of their own take the
// lot from here.
type Material struct {
	Head
	Component string `json:"component"`
	Lot       string `json:"lot,omitempty"`
	// Quantity is how much of the lot was loaded, nil where nobody said.
	Quantity *Decimal  `json:"quantity,omitempty"`
	Unit     string    `json:"unit,omitempty"`
	Location string    `json:"location"`
	Time     time.Time `json:"time"`
	By       string    `json:"by,omitempty"`
}
