// Package blocks holds the function blocks that a PLC programmer imports to hand
// records over: for each protocol one in S7 SCL and one in the structured text of
// CODESYS. It is in Go only so that tests run the very files that are given away.
package blocks

import (
	"embed"
	"fmt"
)

//go:embed *.st *.scl
var files embed.FS

// Dialect is how a block is written; it is the ending of its file.
type Dialect string

// The dialects.
const (
	CODESYS Dialect = "st"
	S7      Dialect = "scl"
)

// Names returns the blocks.
func Names() []string {
	return []string{"SluiceLevel", "SluiceSequence", "SluiceCounter", "SluiceToggle", "SluiceRing", "SluiceHeartbeat"}
}

// Source returns the text of a block; an error says that there is none.
func Source(name string, d Dialect) (string, error) {
	text, err := files.ReadFile(name + "." + string(d))
	if err != nil {
		return "", fmt.Errorf("blocks: %w", err)
	}
	return string(text), nil
}
