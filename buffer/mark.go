package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sluice-edge/sluice/internal/durable"
	"github.com/sluice-edge/sluice/plant"
)

// The high-water mark says, outside of Badger, how far each stream has come. Two
// files take turns, so that a power cut in the middle of a write leaves the one
// before. docs/formats.md has the layout.
var markFiles = [2]string{"mark.0", "mark.1"}

const (
	markMagic      = "SLUICEHW"
	markMajor      = 1
	markMinor      = 0
	markHeaderSize = 28
	// markBlock is what a mark's file grows by: overwriting what is allocated
	// needs no room on the disk and one write of its own.
	markBlock = 4 << 10
	// maxMark bounds what is read: some 100 000 machines.
	maxMark = 64 << 20
	// markClosed is set in a mark that was written at the end of an orderly stop.
	markClosed = 1 << 0
)

// storeID tells one store from another, for ever.
type storeID [16]byte

// highMark is the content of the high-water mark.
type highMark struct {
	generation uint64
	store      storeID
	// opening counts the openings of the store, epoch is that of this one.
	opening uint64
	epoch   plant.Epoch
	closed  bool
	uplinks []string
	streams []markStream
}

// markStream is one machine's stream: the last event accepted, and for each
// uplink of the mark how far it has settled.
type markStream struct {
	machine plant.MachineID
	last    plant.Sequence
	settled []plant.Sequence
}

// needed is the first event of s that an uplink may not have had; behind the
// last if all have had all.
func (s *markStream) needed() plant.Sequence {
	if len(s.settled) == 0 {
		return 1
	}
	first := s.last
	for _, n := range s.settled {
		first = min(first, n)
	}
	return first + 1
}

// append appends m as it stands in a file, without the padding.
func (m *highMark) append(dst []byte) []byte {
	at := len(dst)
	dst = append(dst, markMagic...)
	dst = append(dst, markMajor, markMinor, 0, 0, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint64(dst, m.generation)
	dst = append(dst, 0, 0, 0, 0)
	dst = append(dst, m.store[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.epoch))
	flags := uint64(0)
	if m.closed {
		flags |= markClosed
	}
	dst = appendUvarints(dst, m.opening, flags, uint64(len(m.uplinks)))
	for _, name := range m.uplinks {
		dst = appendName(dst, name)
	}
	dst = appendUvarints(dst, uint64(len(m.streams)))
	for i := range m.streams {
		s := &m.streams[i]
		dst = appendUvarints(appendName(dst, string(s.machine)), uint64(s.last))
		for _, n := range s.settled {
			dst = appendUvarints(dst, uint64(n))
		}
	}
	body := dst[at+markHeaderSize:]
	binary.BigEndian.PutUint32(dst[at+12:], uint32(len(body)))
	binary.BigEndian.PutUint32(dst[at+24:], markSum(dst[at:at+24], body))
	return dst
}

func markSum(header, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(header, castagnoli), castagnoli, body)
}

// decodeMark reads what append wrote. Its error is errDamaged or errNewer.
func decodeMark(data []byte) (m highMark, err error) {
	if len(data) < markHeaderSize || string(data[:len(markMagic)]) != markMagic {
		return highMark{}, fmt.Errorf("%w: no high-water mark", errDamaged)
	}
	length := uint64(binary.BigEndian.Uint32(data[12:]))
	if length > uint64(len(data)-markHeaderSize) {
		return highMark{}, fmt.Errorf("%w: %d bytes of %d", errDamaged, len(data)-markHeaderSize, length)
	}
	body := data[markHeaderSize : markHeaderSize+length]
	if markSum(data[:24], body) != binary.BigEndian.Uint32(data[24:]) {
		return highMark{}, fmt.Errorf("%w: wrong checksum", errDamaged)
	}
	if data[8] != markMajor {
		return highMark{}, fmt.Errorf("%w: version %d.%d, this gateway reads %d", errNewer, data[8], data[9], markMajor)
	}
	if len(body) < len(m.store) {
		return highMark{}, fmt.Errorf("%w: mark cut short", errDamaged)
	}
	m.generation = binary.BigEndian.Uint64(data[16:])
	copy(m.store[:], body)
	f := fields{rest: body[len(m.store):]}
	m.epoch = plant.Epoch(f.uint64())
	m.opening = f.uvarint()
	m.closed = f.uvarint()&markClosed != 0
	for n := f.uvarint(); n > 0 && !f.bad; n-- {
		m.uplinks = append(m.uplinks, f.name())
	}
	for n := f.uvarint(); n > 0 && !f.bad; n-- {
		s := markStream{machine: plant.MachineID(f.name()), last: plant.Sequence(f.uvarint())}
		for range m.uplinks {
			s.settled = append(s.settled, plant.Sequence(f.uvarint()))
		}
		m.streams = append(m.streams, s)
	}
	return m, f.err("mark")
}

// foundMark is what the files of the mark say together.
type foundMark struct {
	highMark
	// known is set if one of them is whole; faults has what is wrong with the
	// others, by their file.
	known  bool
	faults map[string]error
}

// readMark reads both files and returns the newer one that is whole. A mark of a
// newer format is an error, as a newer store is.
func readMark(path string) (found foundMark, err error) {
	found.faults = map[string]error{}
	for _, name := range markFiles {
		file := filepath.Join(path, name)
		data, err := readAtMost(file, maxMark)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return found, fmt.Errorf("buffer: open %s: %w: give the gateway's user the right to read it, and look at the disk", file, err)
		}
		m, err := decodeMark(data)
		switch {
		case errors.Is(err, errNewer):
			return found, fmt.Errorf("buffer: open %s: %w: install the newer gateway again", file, err)
		case err != nil:
			found.faults[name] = err
		case !found.known || m.generation > found.generation:
			found.highMark, found.known = m, true
		}
	}
	return found, nil
}

func readAtMost(file string, limit int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit))
	return data, errors.Join(err, f.Close())
}

// writeMark makes a mark durable in the file whose turn it is. The file is
// opened each time, so that one which somebody deletes is made again.
func writeMark(path string, generation uint64, data []byte) error {
	name := filepath.Join(path, markFiles[generation%uint64(len(markFiles))])
	f, err := os.OpenFile(name, os.O_RDWR, 0o600)
	made := errors.Is(err, fs.ErrNotExist)
	if made {
		f, err = os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	}
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil && made {
		err = durable.SyncFolder(path)
	}
	return err
}

// pad fills a mark up to whole blocks.
func pad(data []byte) []byte {
	if rest := len(data) % markBlock; rest != 0 {
		data = append(data, make([]byte, markBlock-rest)...)
	}
	return data
}
