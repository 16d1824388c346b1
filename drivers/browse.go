package drivers

import (
	"context"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// BrowseOptions say what of a device's list of nodes is wanted.
type BrowseOptions struct {
	// From is the address to begin at; empty for where the machine's own nodes are.
	From string
	// Depth is how many levels are followed, Most how many nodes are listed.
	Depth, Most int
	// Values says that values are read, too.
	Values bool
	// All says that what every server has, such as diagnostics and properties of
	// variables, is listed, too.
	All bool
	// Step is told how many nodes were found so far; it may be nil.
	Step func(nodes int)
}

// Browse is a device's list of what can be read, asked for by people. It blocks
// for as long as the device takes and ends with ctx; it changes nothing.
type Browse func(ctx context.Context, env Env, o BrowseOptions) (Listing, error)

// Listing is what a Browse found.
type Listing struct {
	// Nodes are in the order of the tree: each behind the one that it is below.
	Nodes []Node
	// More says that there is more than Depth or Most let through.
	More bool
	// Problems are what could not be listed, and why.
	Problems []string
}

// Node is one thing that a device has.
type Node struct {
	// Depth is 0 for the first level; Path has the names from there on, joined by
	// "/".
	Depth int
	Name  string
	Path  string
	// Address is what a config writes; Stable the same in a form that outlives
	// changes at the device, for configs.
	Address, Stable string
	// Variable says that the node has a value; others are folders.
	Variable bool
	// Type is the type as the device calls it, Tag the type of a tag that reads it,
	// unknown if none can; Unusable then says why.
	Type     string
	Tag      plant.TagType
	Unusable string
	// Writable says that this user may write it.
	Writable bool
	Value    plant.Value
	Quality  plant.Quality
	Cause    string
	Source   time.Time
}
