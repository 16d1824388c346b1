package derive

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluice-edge/sluice/plant"
)

// TestOperationsAddUpToTheCounter runs a machine through pieces, scrap, order and
// mode changes, losses, restarts and crashes: for each order the operations say
// what the counter's events say, and no piece is in two of them.
func TestOperationsAddUpToTheCounter(t *testing.T) {
	const machine = `device: press
order: order
counter: {total: made, scrap: {BURR: burr}, max_rate: 1000/s, every: 5s}
operation: {method: counter, every: 40}
`
	rapid.Check(t, func(rt *rapid.T) {
		made, burr, order := 0, 0, 1
		var in strings.Builder
		look := func(kind string, wait int) {
			fmt.Fprintf(&in, "+%ds %s press made=%d burr=%d order=%d\n", wait, kind, made, burr, order)
		}
		look("scan", 0)
		look("scan", 1)
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			switch rapid.IntRange(0, 9).Draw(rt, "what") {
			case 0:
				order++
				look("scan", 1)
				look("scan", 1)
			case 1:
				in.WriteString("+1s lost press\n+9s back press\n")
				made += rapid.IntRange(0, 50).Draw(rt, "unseen")
				order += rapid.IntRange(0, 1).Draw(rt, "unseen order")
				look("snapshot", 0)
				look("scan", 1)
			case 2:
				in.WriteString(rapid.SampledFrom([]string{"+1s crash\n", "+1s stop\n+1s restart\n"}).Draw(rt, "end"))
				look("snapshot", 1)
			case 3:
				fmt.Fprintf(&in, "+1s mode %s bob\n", rapid.SampledFrom([]string{"setup", "production"}).Draw(rt, "mode"))
			default:
				n := rapid.IntRange(0, 30).Draw(rt, "pieces")
				made += n
				burr += rapid.IntRange(0, n/4).Draw(rt, "scrap")
				look("scan", rapid.IntRange(1, 4).Draw(rt, "wait"))
			}
		}
		// The last order ends, so that everything is told.
		order++
		look("scan", 1)
		look("scan", 1)
		look("scan", 9)
		s := &scenario{path: "made up", files: map[string]string{
			"config.yaml": machine, "tags": "press/made uint32\npress/burr uint32\npress/order string\n", "inputs": in.String(),
		}}
		events := newPlayer(t, s).play(parseInputs(t, s.files["inputs"], catalog(t, s.files["tags"])))
		counted, worked := map[string][2]int64{}, map[string][2]int64{}
		for _, e := range events {
			switch e.Kind {
			case plant.KindCounter:
				var c plant.Counter
				decodeData(t, e, &c)
				sum := counted[orderOf(c.Head)]
				sum[0] += c.GoodDelta
				for _, code := range c.Scrap {
					sum[1] += code.Delta
				}
				counted[orderOf(c.Head)] = sum
			case plant.KindOperation:
				var o plant.Operation
				decodeData(t, e, &o)
				sum := worked[orderOf(o.Head)]
				valid, _ := o.Valid.Int()
				invalid, _ := o.Invalid.Int()
				worked[orderOf(o.Head)] = [2]int64{sum[0] + valid, sum[1] + invalid}
			}
		}
		maps.DeleteFunc(counted, func(_ string, sum [2]int64) bool { return sum == [2]int64{} })
		if !maps.Equal(counted, worked) {
			rt.Fatalf("the counter says %v, the operations %v\n%s", counted, worked, &in)
		}
	})
}

func orderOf(h plant.Head) string {
	if h.Order == nil {
		return string(h.Mode)
	}
	return h.Order.Number + " " + string(h.Mode)
}

func decodeData(t *testing.T, e plant.Event, into any) {
	t.Helper()
	if err := json.Unmarshal(e.Data, into); err != nil {
		t.Fatalf("%s: %v", e.Data, err)
	}
}
