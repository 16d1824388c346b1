package memory

import (
	"encoding/json"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluice-edge/sluice/plant"
)

// word writes itself.
type word struct {
	Text string `json:"t"`
}

func (w *word) AppendJSON(dst []byte) []byte {
	return append(plant.AppendJSONString(append(dst, `{"t":`...), w.Text), '}')
}

// TestAnEntryIsWrittenAsByEncodingJSON, whether its value writes itself or not.
func TestAnEntryIsWrittenAsByEncodingJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[ -%'-;=?-~é\n\x00]{0,8}`)
		e := entry[word]{Name: text.Draw(t, "name"), N: rapid.Uint64().Draw(t, "n"), Value: word{text.Draw(t, "value")}}
		plain := entry[int]{Name: e.Name, N: e.N, Value: rapid.Int().Draw(t, "number")}
		for _, c := range []struct {
			in  any
			got []byte
		}{{e, e.encode()}, {plain, plain.encode()}} {
			want, err := json.Marshal(c.in)
			if err != nil {
				t.Fatal(err)
			}
			if string(c.got) != string(want) {
				t.Fatalf("%s\nencoding/json: %s", c.got, want)
			}
		}
	})
}
