package nextplus

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/sluice-edge/sluice/plant"
)

// What the uplink remembers durably, under keys of its own memory:
//
//	device/UUID          a device: one unit by article and serial number
//	attach/MACHINE/N     an attached: one attach by the rule's number
//	operation/UUID       a reported: what was reported of one operation
//	dose/UUID            a reported: what a machine put of a component into an order
//	refused/KEY          a refusal: the receiver refused to add what KEY is
//	began/MACHINE        a began: the request that was noted before it went out
//	began_aside/MACHINE  the same, of what had waited among the dead letters
//	ring/MACHINE         the number of the ring's next place
//	ring/MACHINE/N       the key at that place, so that the oldest is forgotten

// device is what is known of a unit with a serial number. ExternalID is the
// receiver's, empty if it named none.
type device struct {
	SKU        string `json:"sku"`
	Serial     string `json:"serial"`
	ExternalID string `json:"external_id,omitempty"`
	// StockID is ours; it stays when the serial number changes.
	StockID string `json:"stock_id"`
	// Gone: the unit was removed. What was attached to it is told by its id all
	// the same.
	Gone bool `json:"gone,omitempty"`
}

// attached is an attach that was accepted; Parent is the unit's id at the
// receiver.
type attached struct {
	ExternalID string `json:"external_id,omitempty"`
	Parent     string `json:"parent,omitempty"`
}

// report is one accepted report of an operation.
type report struct {
	ExternalID string `json:"external_id,omitempty"`
	Valid      string `json:"valid"`
	Invalid    string `json:"invalid"`
}

// reported are the newest accepted reports of one operation, oldest first.
type reported struct {
	Reports []report `json:"reports"`
}

// maxReports bounds the reports of one operation whose ids are remembered.
const maxReports = 32

// with returns r and the newest report.
func (r reported) with(newest report) *reported {
	all := append(append([]report(nil), r.Reports...), newest)
	return &reported{all[max(0, len(all)-maxReports):]}
}

// without returns the report that a removal of those quantities is about, and the
// others: the newest of the same quantities, else the newest.
func (r reported) without(valid, invalid string) (report, *reported) {
	at := len(r.Reports) - 1
	for i := at; i >= 0; i-- {
		if r.Reports[i].Valid == valid && r.Reports[i].Invalid == invalid {
			at = i
			break
		}
	}
	if at < 0 {
		return report{}, &reported{}
	}
	rest := append(append([]report(nil), r.Reports[:at]...), r.Reports[at+1:]...)
	return r.Reports[at], &reported{rest}
}

// refusal says that an add was refused, or parked.
type refusal struct {
	Words string `json:"words"`
}

func deviceKey(sku, serial string) string { return "device/" + id("device", sku, serial) }

func attachKey(e *plant.Event, data *plant.ItemAttach) string {
	if data.AttachID == 0 { // the remove of an attach that nobody remembers
		return "attach/" + string(e.Machine) + "/unknown"
	}
	return "attach/" + string(e.Machine) + "/" + strconv.FormatUint(data.AttachID, 10)
}

func operationKey(order, sku, serial, act, center, position string) string {
	return "operation/" + id("operation", order, sku, serial, act, center, position)
}

// view is the memory as one Send sees it: what is durable, and over it what the
// results of this Send put, which is not durable before the Send has ended.
type view struct {
	machine plant.MachineID
	most    int
	read    func(key string) ([]byte, error)
	over    map[string][]byte
	// held are the keys that events of this Send wait for: what comes later waits
	// behind them, though the key be there by then. shelved says the same of older
	// events.
	held    map[string]bool
	shelved func(m plant.MachineID, key string) bool
	// puts are those of the event under way.
	puts []plant.KV
}

func (s *Sender) view(m plant.MachineID) *view {
	return &view{machine: m, most: s.options.Remember, read: s.memory, over: make(map[string][]byte), held: make(map[string]bool), shelved: s.env.Shelved}
}

// behind returns a *waits if older events of the machine wait for key, so that
// what needs it comes behind them.
func (v *view) behind(key string) error {
	if v.held[key] || v.shelved != nil && v.shelved(v.machine, key) {
		return &waits{key, "it comes behind older events that wait for the same; " + v.why(key)}
	}
	return nil
}

// begin makes room for the puts of the next event.
func (v *view) begin() { v.puts = nil }

// take returns the puts of the event that has ended, for its Result.
func (v *view) take() []plant.KV { return v.puts }

func (v *view) raw(key string) ([]byte, error) {
	if value, ok := v.over[key]; ok {
		return value, nil
	}
	value, err := v.read(key)
	if err != nil && !errors.Is(err, plant.ErrUnreadable) {
		return nil, fmt.Errorf("%w: %w", errMemory, err)
	}
	return value, err
}

// get reads what is remembered under key; found is false if nothing is. What is
// there and cannot be read is found and empty: that there was something is known,
// its id is lost.
func (v *view) get(key string, into any) (found bool, err error) {
	value, err := v.raw(key)
	switch {
	case errors.Is(err, plant.ErrUnreadable):
		return true, nil
	case err != nil || value == nil:
		return false, err
	}
	if json.Unmarshal(value, into) != nil {
		return true, nil
	}
	return true, nil
}

func (v *view) set(key string, value []byte) {
	v.over[key] = value
	v.puts = append(v.puts, plant.KV{Key: key, Value: value})
}

func (v *view) setJSON(key string, value any) {
	raw, err := json.Marshal(value)
	if err != nil {
		panic(err) // text and numbers always have a JSON form
	}
	v.set(key, raw)
}

// keep remembers value under key, and forgets the oldest of the machine's keys if
// there are too many. An earlier refusal of the same is over.
func (v *view) keep(key string, value any) error {
	before, err := v.raw(key)
	known := before != nil || errors.Is(err, plant.ErrUnreadable)
	if err != nil && !known {
		return err
	}
	v.setJSON(key, value)
	if err := v.allow(key); err != nil || known {
		return err
	}
	return v.enter(key)
}

// enter gives key a place in the machine's ring, and forgets what had it.
func (v *view) enter(key string) error {
	head := "ring/" + string(v.machine)
	var next struct {
		Next uint64 `json:"next"`
	}
	if _, err := v.get(head, &next); err != nil {
		return err
	}
	place := head + "/" + strconv.FormatUint(next.Next%uint64(v.most), 10)
	oldest, err := v.raw(place)
	if err != nil && !errors.Is(err, plant.ErrUnreadable) {
		return err
	}
	if len(oldest) > 0 && string(oldest) != key {
		v.set(string(oldest), nil)
	}
	next.Next++
	v.set(place, []byte(key))
	v.setJSON(head, &next)
	return nil
}

// forget drops what is remembered under key. Its place in the ring stays until
// its turn.
func (v *view) forget(key string) { v.set(key, nil) }

// refuse remembers that the add of what key is was refused.
func (v *view) refuse(key, words string) { v.setJSON("refused/"+key, &refusal{words}) }

// allow forgets that.
func (v *view) allow(key string) error {
	value, err := v.raw("refused/" + key)
	if err != nil && !errors.Is(err, plant.ErrUnreadable) {
		return err
	}
	if value != nil || err != nil {
		v.set("refused/"+key, nil)
	}
	return nil
}

// refused returns a *waits if the add of what key is was refused, nil if not; what
// says what that is.
func (v *view) refused(key, what string) error {
	var r refusal
	found, err := v.get("refused/"+key, &r)
	if err != nil || !found {
		return err
	}
	return &waits{key, fmt.Sprintf("it waits until the receiver has accepted %s, which it refused: %s; mend the cause and retry that dead letter, what waits for it follows by itself", what, r.Words)}
}

// why says why the receiver has not accepted what key is.
func (v *view) why(key string) string {
	var r refusal
	if found, err := v.get("refused/"+key, &r); err == nil && found {
		return "it refused that: " + r.Words + "; mend the cause and retry that dead letter, what waits for it follows by itself"
	}
	return "no event has told it yet"
}
