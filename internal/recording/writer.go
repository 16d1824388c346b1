package recording

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"

	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/plant"
)

// Writer writes one file. It is used from one goroutine at a time. After an
// error the file ends with its last whole block.
type Writer struct {
	to     io.Writer
	number uint32
	size   int64
	e      *encoder
	block  []byte
}

// NewWriter writes the beginning of a file.
func NewWriter(to io.Writer, h Head, state []byte, keyed []plant.KV) (*Writer, error) {
	w := &Writer{to: to, e: newEncoder()}
	header := binary.BigEndian.AppendUint16([]byte(magic), major)
	header = binary.BigEndian.AppendUint16(header, minor)
	w.size = headerLen
	if _, err := to.Write(header); err != nil {
		return nil, fmt.Errorf("recording: write: %w", err)
	}
	head, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("recording: encode: %w", err)
	}
	if err := w.write(blockHead, head); err != nil {
		return nil, err
	}
	if err := w.write(blockState, state); err != nil {
		return nil, err
	}
	for _, kv := range keyed {
		var e encoder
		e.bytes(kv.Key)
		e.bytes(string(kv.Value))
		if err := w.write(blockKeyed, e.buf); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// Add takes the steps of one commit and what came of them. It writes a block
// when there is enough for one.
func (w *Writer) Add(steps []derive.Step, events []plant.Event, first plant.Sequence) error {
	for i := range steps {
		if err := w.e.step(&steps[i]); err != nil {
			return err
		}
		// A commit is in one block with what came of it, if one can hold it.
		if len(w.e.buf) >= maxBlock/4 {
			if err := w.Flush(); err != nil {
				return err
			}
		}
	}
	if len(events) > 0 {
		w.e.events(events, first)
	}
	if len(w.e.buf) >= blockSize {
		return w.Flush()
	}
	return nil
}

// Flush writes what waits as a block.
func (w *Writer) Flush() error {
	if len(w.e.buf) == 0 {
		return nil
	}
	err := w.write(blockData, w.e.buf)
	w.e.buf = w.e.buf[:0]
	return err
}

// Waiting returns how many bytes wait for a block.
func (w *Writer) Waiting() int { return len(w.e.buf) }

// Size returns how many bytes the file has.
func (w *Writer) Size() int64 { return w.size }

// End writes what waits, and why there is no more; full says that the next part
// goes on from here.
func (w *Writer) End(reason string, full bool) error {
	if err := w.Flush(); err != nil {
		return err
	}
	end, err := json.Marshal(ending{Reason: reason, Full: full})
	if err != nil {
		return fmt.Errorf("recording: encode: %w", err)
	}
	return w.write(blockEnd, end)
}

// write writes one block in one call, so that a kill leaves it whole or not
// there at all, as far as the operating system does.
func (w *Writer) write(sort byte, payload []byte) error {
	if len(payload)+1 > maxBlock {
		return fmt.Errorf("recording: a block of %d bytes is larger than one may be", len(payload))
	}
	w.block = binary.BigEndian.AppendUint32(w.block[:0], uint32(len(payload)+1))
	w.block = append(w.block, 0, 0, 0, 0, sort)
	w.block = append(w.block, payload...)
	binary.BigEndian.PutUint32(w.block[4:], checksum(w.number, w.block[:4], w.block[blockHeader:]))
	if _, err := w.to.Write(w.block); err != nil {
		return fmt.Errorf("recording: write: %w", err)
	}
	w.number++
	w.size += int64(len(w.block))
	return nil
}
