package plant

import "embed"

//go:embed schema/*.json
var schemas embed.FS

// Schema returns the JSON Schema (draft 2020-12) of the data of a kind and
// version; ok is false for one that this version does not know.
func Schema(kind EventKind, version uint8) (schema []byte, ok bool) {
	b, err := schemas.ReadFile(schemaFile(kind, version))
	return b, err == nil
}
