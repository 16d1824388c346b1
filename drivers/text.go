package drivers

import (
	"fmt"
	"strings"

	"github.com/sluice-edge/sluice/plant"
)

// maxText is the longest text of a tag in bytes, and shownText what is kept of a
// longer one. A server may send megabytes where the config expects a lot number,
// and an event that the buffer cannot take must not be made of it: 100 fields of
// this length fit one (buffer: 256 KiB).
const (
	maxText   = 1024
	shownText = 64
)

// boundTexts makes texts that are too long bad. A text counts as events carry
// it: a control character takes six bytes there.
func boundTexts(readings []plant.Reading) {
	for i := range readings {
		r := &readings[i]
		if r.Value.Type() != plant.Text {
			continue
		}
		text := r.Value.Text()
		n := len(text)
		if n > maxText/6 && n <= maxText {
			n = len(plant.AppendJSONString(nil, text)) - len(`""`)
		}
		if n <= maxText {
			continue
		}
		r.Quality = plant.Bad
		r.Cause = fmt.Sprintf("the text is %d bytes long, and %d are taken: check the tag's address, or let the PLC offer a shorter text", n, maxText)
		if n > len(text) {
			r.Cause = fmt.Sprintf("the text has so many control characters that it takes %d bytes, and %d are taken: check the tag's address and type", n, maxText)
		}
		r.Value = plant.TextValue(strings.ToValidUTF8(text[:min(shownText, len(text))], ""))
	}
}
