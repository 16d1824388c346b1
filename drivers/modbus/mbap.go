package modbus

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"slices"
	"time"
)

// mbap is the framing of Modbus TCP on a socket that several units share: a
// gateway box that translates to its own serial line. Transaction ids are the
// line's, so an answer that comes after its time is known and read over. Only a
// socket whose frames cannot be told apart any more is dropped.
type mbap struct {
	link    link
	counter uint16
	// asked counts the requests of this socket, up to agesKnown.
	asked uint16
	out   [maxFrame]byte
	// given are requests that were given up: their answers may still come.
	given []givenUp
}

// givenUp is a request without an answer in time, and when it was sent.
type givenUp struct {
	id uint16
	at time.Time
}

// agesKnown bounds how far below the newest transaction id another one is taken
// for older: half of them, the other half is newer.
const agesKnown = 1 << 15

var _ framing = (*mbap)(nil)

// newMBAP frames a socket, which the line's dial has opened.
func newMBAP(w wire, _ *line) framing {
	conn, _ := w.(net.Conn)
	return &mbap{link: link{conn: conn}}
}

// prepare implements framing. What is left of earlier answers is told apart by
// its transaction id.
func (m *mbap) prepare(*station, time.Duration) error { return nil }

// exchange implements framing.
func (m *mbap) exchange(s *station, request []byte, deadline time.Time) ([]byte, error) {
	m.counter++
	m.asked = min(m.asked+1, agesKnown)
	own := binary.BigEndian.Uint16(request)
	binary.BigEndian.PutUint16(request, m.counter)
	defer binary.BigEndian.PutUint16(request, own)
	if err := m.link.conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	if _, err := m.link.conn.Write(request); err != nil {
		return nil, err
	}
	answer, err := m.receive(s)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		m.giveUp(s)
		return nil, &lostAnswer{err}
	case err != nil:
		return nil, err
	}
	if err := check(request, answer); err != nil {
		return nil, &lostAnswer{err}
	}
	// What is kept stays as it came, to be compared with repetitions.
	answer = m.out[:copy(m.out[:], answer)]
	binary.BigEndian.PutUint16(answer, own)
	return answer, nil
}

// receive returns the answer to the newest request, over answers to earlier ones.
func (m *mbap) receive(s *station) ([]byte, error) {
	for range maxDuplicates + len(m.given) + 1 {
		f, err := m.link.frame()
		if err != nil {
			return nil, err
		}
		id := binary.BigEndian.Uint16(f)
		if id == m.counter {
			return m.link.keep(f), nil
		}
		if i := slices.IndexFunc(m.given, func(g givenUp) bool { return g.id == id }); i >= 0 {
			if late := s.line.of(f[6]); late != nil {
				late.cameLate(time.Since(m.given[i].at), exceptionOf(f[headerSize:]))
			}
			m.given = slices.Delete(m.given, i, i+1)
			continue
		}
		if !m.forgotten(id) {
			if err := m.again(s, f); err != nil {
				return nil, err
			}
		}
		if unit := s.line.of(f[6]); unit != nil {
			unit.answersTwice()
		}
	}
	return nil, errRepeats
}

// again takes one more answer to a request that has one. A different one of the
// same unit shows that at least one of the two was wrong, and ends the session of
// that unit only. A different one of another unit is a wrong one: the first had
// the unit that was asked.
func (m *mbap) again(s *station, f []byte) error {
	first := m.link.answerTo(binary.BigEndian.Uint16(f))
	_, err := m.link.repeats(f)
	switch {
	case first == nil || err == nil:
		return err
	case first[6] != f[6]:
		return nil
	case s.unit == f[6]:
		m.giveUp(s)    // the answer to its newest request may still come
		s.well = false // and this one is not forgiven
		return &lostAnswer{err}
	}
	if unit := s.line.of(f[6]); unit != nil {
		unit.over(err)
	}
	return nil
}

// forgotten reports whether id is of a request of this socket that is too old to
// compare its answers: one more of them is nobody's answer and harms nobody,
// however many requests of other units went by meanwhile.
func (m *mbap) forgotten(id uint16) bool {
	age := m.counter - id
	return age > 0 && age < m.asked && m.link.answerTo(id) == nil
}

// giveUp remembers the newest request, of s, whose answer may come later; of the
// last ones only.
func (m *mbap) giveUp(s *station) {
	if len(m.given) == unansweredKept {
		m.given = slices.Delete(m.given, 0, 1)
	}
	m.given = append(m.given, givenUp{m.counter, s.asked})
}
