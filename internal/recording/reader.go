package recording

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/plant"
)

// Entry is what a recording holds next: a step, or the events that the program
// which recorded made of the steps since the entry of events before.
type Entry struct {
	// Step is what the rules took; its In is nil for events. A scan is valid until
	// the next Entry.
	Step derive.Step
	// Events are without gateway, source and epoch, First is the number of the
	// first. They are valid until the next Entry.
	Events []plant.Event
	First  plant.Sequence
}

// Reader reads one file. It is used from one goroutine.
type Reader struct {
	from   io.Reader
	offset int64
	number uint32
	block  []byte
	d      *decoder

	head  Head
	state []byte
	keyed []plant.KV
	// ended says why the file ends; nil while that is not read.
	ended *ending
	err   error
}

// ending is the last block of a file that was closed in order.
type ending struct {
	// Reason is why; Full that the next part goes on from here.
	Reason string `json:"reason"`
	Full   bool   `json:"full,omitempty"`
}

// NewReader reads the beginning of a file: what it is, and the state that its
// steps begin with. ErrForeign and DamageError say what is wrong.
func NewReader(from io.Reader) (*Reader, error) {
	r := &Reader{from: from}
	var header [headerLen]byte
	n, err := io.ReadFull(from, header[:])
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("recording: read: %w", err)
	}
	if n < headerLen && n > 0 && bytes.HasPrefix([]byte(magic), header[:min(n, len(magic))]) {
		return nil, &DamageError{Offset: 0, Cut: true, Cause: io.ErrUnexpectedEOF}
	}
	if n < headerLen || string(header[:len(magic)]) != magic {
		return nil, ErrForeign
	}
	if v := binary.BigEndian.Uint16(header[8:]); v != major {
		return nil, fmt.Errorf("the recording has format %d, and this program reads %d: replay it with the version of Sluice that made it, or a newer one", v, major)
	}
	r.offset = headerLen
	if err := r.beginning(); err != nil {
		return nil, err
	}
	return r, nil
}

// beginning reads the blocks before the data.
func (r *Reader) beginning() error {
	sort, payload, err := r.next()
	if err != nil {
		return r.early(err)
	}
	if sort != blockHead {
		return r.damage(errors.New("it does not begin with its head"))
	}
	if err := json.Unmarshal(payload, &r.head); err != nil {
		return r.damage(err)
	}
	r.d = newDecoder(r.head.Machine)
	if sort, payload, err = r.next(); err != nil {
		return r.early(err)
	}
	if sort != blockState {
		return r.damage(errors.New("it has no state"))
	}
	r.state = bytes.Clone(payload)
	for {
		if sort, payload, err = r.next(); err != nil {
			if errors.Is(err, io.EOF) {
				return nil // a recording that ended before its first input
			}
			return err
		}
		if sort != blockKeyed {
			return r.take(sort, payload)
		}
		d := decoder{b: payload}
		key, err1 := d.bytes()
		value, err2 := d.bytes()
		if err := errors.Join(err1, err2); err != nil {
			return r.damage(err)
		}
		r.keyed = append(r.keyed, plant.KV{Key: string(key), Value: bytes.Clone(value)})
	}
}

// early makes the end of a file before its data what it is.
func (r *Reader) early(err error) error {
	if errors.Is(err, io.EOF) {
		return &DamageError{Offset: r.offset, Cut: true, Cause: io.ErrUnexpectedEOF}
	}
	return err
}

// Head says what the file holds.
func (r *Reader) Head() Head { return r.head }

// State returns the encoded state that the steps begin with, and the kept values
// that go with it.
func (r *Reader) State() (state []byte, keyed []plant.KV) { return r.state, r.keyed }

// Ended says why the recording ended; ok is false if it was not closed: the
// gateway was killed, or is recording still. It is known after Next has returned
// io.EOF.
func (r *Reader) Ended() (reason string, ok bool) {
	if r.ended == nil {
		return "", false
	}
	return r.ended.Reason, true
}

// Next reads the next entry into e. It returns io.EOF at the end, and a
// DamageError where the file cannot be read any further.
func (r *Reader) Next(e *Entry) error {
	for {
		if r.err != nil {
			return r.err
		}
		if r.d != nil && len(r.d.b) > 0 {
			if err := r.d.next(e); err != nil {
				r.err = r.damage(err)
				return r.err
			}
			return nil
		}
		if r.ended != nil {
			return io.EOF
		}
		sort, payload, err := r.next()
		if err == nil {
			err = r.take(sort, payload)
		}
		r.err = err
	}
}

// take begins the work on a block behind the beginning.
func (r *Reader) take(sort byte, payload []byte) error {
	switch sort {
	case blockData:
		r.d.b = payload
		return nil
	case blockEnd:
		r.ended = new(ending)
		if err := json.Unmarshal(payload, r.ended); err != nil {
			return r.damage(err)
		}
		return nil
	default:
		return r.damage(fmt.Errorf("there is a block of the sort %q", sort))
	}
}

// damage says that the block that was read last is no good.
func (r *Reader) damage(cause error) error {
	return &DamageError{Offset: r.offset - int64(len(r.block)) - blockHeader, Cause: cause}
}

// next reads a block; io.EOF means that the file ends before it.
func (r *Reader) next() (sort byte, payload []byte, err error) {
	var header [blockHeader]byte
	_, err = io.ReadFull(r.from, header[:])
	if errors.Is(err, io.EOF) {
		return 0, nil, io.EOF
	}
	if err != nil {
		return 0, nil, r.torn(err)
	}
	length := binary.BigEndian.Uint32(header[:])
	if length == 0 || length > maxBlock {
		return 0, nil, &DamageError{Offset: r.offset, Cause: fmt.Errorf("a block cannot have %d bytes", length)}
	}
	if cap(r.block) < int(length) {
		r.block = make([]byte, length)
	}
	r.block = r.block[:length]
	if _, err := io.ReadFull(r.from, r.block); err != nil {
		return 0, nil, r.torn(err)
	}
	if checksum(r.number, header[:4], r.block) != binary.BigEndian.Uint32(header[4:]) {
		return 0, nil, &DamageError{Offset: r.offset, Cause: errors.New("the checksum of a block is wrong")}
	}
	r.offset += blockHeader + int64(length)
	r.number++
	return r.block[0], r.block[1:], nil
}

// torn is the error of a block that ends too early.
func (r *Reader) torn(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return &DamageError{Offset: r.offset, Cut: true, Cause: io.ErrUnexpectedEOF}
	}
	return fmt.Errorf("recording: read: %w", err)
}

// checksum covers the block's number as well: a good block in another's place is
// damage.
func checksum(number uint32, length, payload []byte) uint32 {
	var n [4]byte
	binary.BigEndian.PutUint32(n[:], number)
	sum := crc32.Update(0, castagnoli, n[:])
	return crc32.Update(crc32.Update(sum, castagnoli, length), castagnoli, payload)
}
