package buffer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/sluice-edge/sluice/plant"
)

// search looks for events in broken files byte by byte: an event's record says
// how long it is, and its checksum covers the key, so that it is known for what
// it is wherever it lies. Of what else a damaged place held nothing is guessed.
func (s *salvage) search(ctx context.Context) error {
	for _, name := range s.broken {
		if err := ctx.Err(); err != nil {
			return err
		}
		data, err := os.ReadFile(filepath.Join(s.folder, name))
		if err != nil {
			continue // named already
		}
		i := slices.IndexFunc(s.report.Files, func(c FileCheck) bool { return c.Name == name })
		s.file = &FileCheck{}
		content, _ := s.plain(name, data)
		if err := s.searchIn(content); err != nil {
			var stop *stopped
			if errors.As(err, &stop) {
				return stop.cause
			}
			return err
		}
		if n := s.file.Events; n > s.report.Files[i].Events {
			extra := n - s.report.Files[i].Events
			s.report.Files[i].Events += extra
			s.report.Files[i].Records += extra
			s.report.Events += extra
			s.report.Records += extra
			s.report.Files[i].Note = fmt.Sprintf("%d events were found byte by byte", extra)
		}
	}
	return nil
}

func (s *salvage) searchIn(data []byte) error {
	for at := 0; at+eventHeaderSize <= len(data); at++ {
		if data[at] != recordMajor || binary.BigEndian.Uint16(data[at+2:]) != eventHeaderSize {
			continue
		}
		size, ok := eventSize(data[at:])
		if !ok {
			continue
		}
		record := data[at : at+size]
		sequence := plant.Sequence(binary.BigEndian.Uint64(record[16:]))
		for m := range s.machines {
			key := eventKey(m, sequence)
			if _, err := unseal(key, record); err != nil {
				continue
			}
			// The lowest version: what the structure of a file says wins.
			if err := s.take(found{key: key, version: 1, value: record}); err != nil {
				return err
			}
			at += size - 1
			break
		}
	}
	return nil
}

// eventSize returns how long the event record at the beginning of data is.
func eventSize(data []byte) (int, bool) {
	rest := data[eventHeaderSize:]
	if len(rest) < 1 || len(rest) < 1+int(rest[0])+4 {
		return 0, false
	}
	n := 1 + int(rest[0])
	length := int64(binary.BigEndian.Uint32(rest[n:]))
	size := int64(eventHeaderSize+n+4) + length
	return int(size), length <= maxEvent && size <= int64(len(data))
}
