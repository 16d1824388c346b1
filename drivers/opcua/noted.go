package opcua

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/internal/durable"
	"github.com/sluice-edge/sluice/plant"
)

// ownNamespace is the number of the server's own namespace, which never moves
// (OPC 10000-3, 8.2.2).
const ownNamespace = 1

// pin is the namespace that the number in a tag's line of the config meant when a
// node of that number was first read. Another node id in the line is another pin.
type pin struct {
	Node      string `json:"node"`
	Namespace string `json:"namespace"`
}

// pins are those of a device's tags. They are used by the goroutine of Connect and
// Read.
type pins map[plant.TagID]pin

// of returns the namespace that is meant by the number in the point's node id,
// nothing if that is not known yet.
func (p pins) of(at *point) string {
	if known, ok := p[at.tag]; ok && known.Node == at.id.String() {
		return known.Namespace
	}
	return ""
}

// noted is the file that keeps the pins over a restart of the gateway.
type noted struct {
	// Endpoint is the server whose namespaces they are: those of another one mean
	// nothing.
	Endpoint string `json:"endpoint"`
	Tags     pins   `json:"tags"`
}

// recall reads the pins of the run before, once. Without a file there are none;
// one that cannot be read leaves the tags with a number bad, since what their
// numbers meant is not known any more.
func (d *driver) recall() {
	if d.recalled || d.notes == "" {
		return
	}
	n, err := readNoted(d.notes)
	if d.unread = ""; err != nil {
		d.unread = fmt.Sprintf("what the number of its namespace means is noted in %s, which cannot be read: %v; write nsu= and the namespace's name, or look whether the numbers in the config are right now, delete the file, and restart the gateway",
			d.notes, err)
		return // it is tried again at the next connect
	}
	d.recalled = true
	if n.Endpoint != string(d.o.Endpoint) {
		return
	}
	for _, p := range d.points {
		if uri := n.Tags.of(p); uri != "" {
			d.pins[p.tag] = pin{Node: p.id.String(), Namespace: uri}
		}
	}
}

func readNoted(path string) (n noted, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return n, nil
	}
	if err != nil {
		return n, err
	}
	if err := json.Unmarshal(data, &n); err != nil {
		return n, fmt.Errorf("it is damaged: %w", err)
	}
	if n.Endpoint == "" {
		return n, errors.New("it is damaged: it names no endpoint")
	}
	return n, nil
}

// keep writes the pins. If that fails they hold while the driver lives, and the
// next session tries again.
func (d *driver) keep() {
	if d.notes == "" || d.unread != "" {
		return
	}
	n := noted{Endpoint: string(d.o.Endpoint), Tags: make(pins, len(d.pins))}
	for _, p := range d.points {
		if uri := d.pins.of(p); uri != "" && p.id.Index > ownNamespace {
			n.Tags[p.tag] = d.pins[p.tag]
		}
	}
	data, err := json.MarshalIndent(n, "", " ")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(d.notes), 0o750)
	}
	if err == nil {
		err = durable.Replace(d.notes, append(data, '\n'), 0o640)
	}
	text := ""
	if d.unkept = err != nil; d.unkept {
		text = fmt.Sprintf("what the numbers of the namespaces mean could not be noted, so a namespace that moves while the gateway is off would not be seen: %v; make room on the disk, or write nsu= and the namespace's name", err)
	}
	if d.advice.say(onNotes, text) && text != "" {
		d.log.Warn("the meaning of the namespaces' numbers could not be noted", zap.String("device", string(d.device)), zap.Error(err))
	}
}

// forget says how a number is taken as it is now.
func (d *driver) forget(number uint16) string {
	file := ""
	if d.notes != "" && number > ownNamespace {
		file = "delete " + d.notes + " and "
	}
	return fmt.Sprintf(", or %srestart the gateway if ns=%d is right", file, number)
}
