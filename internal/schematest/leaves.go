package schematest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// Leaves returns every value in a JSON document that holds no others, by where it
// is: "item.sku", "scrap[0].code". Numbers stay as they are written. An error is a
// text that is no JSON.
func Leaves(text []byte) (map[string]any, error) {
	var whole any
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&whole); err != nil {
		return nil, fmt.Errorf("schematest: %w in %s", err, text)
	}
	found := make(map[string]any)
	leaves(found, "", whole)
	return found, nil
}

func leaves(found map[string]any, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			leaves(found, strings.TrimPrefix(path+"."+name, "."), inner)
		}
	case []any:
		for i, inner := range v {
			leaves(found, fmt.Sprintf("%s[%d]", path, i), inner)
		}
	default:
		found[path] = v
	}
}
