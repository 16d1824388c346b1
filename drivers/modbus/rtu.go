package modbus

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	pdu "github.com/goburrow/modbus"
)

// The frame of Modbus RTU: unit id, function code, data, CRC-16, low byte first
// (MODBUS over Serial Line, Specification and Implementation Guide V1.02, 2.5.1).
const (
	minRTU = 4
	maxRTU = 256
	// rtuAhead is how many bytes are kept to find an answer in: noise, an echo of
	// the request, a late answer, and the answer.
	rtuAhead = 4 * maxRTU
	// rtuGap is how long nothing may come within a frame. The specification says
	// 1.5 characters; USB adaptors and device servers deliver in pieces.
	rtuGap = 100 * time.Millisecond
	// drainFor bounds how long a line is waited for that is never silent.
	drainFor = 300 * time.Millisecond
	// After an answer too many a unit is asked for waryFor only when warySilence
	// has gone by in which nothing more came of it, since that could be one more
	// to the request before. The others use the line meanwhile: its unit id tells
	// them from it. One that answers over and over is asked after waryRounds of
	// that all the same.
	warySilence, waryFor = 100 * time.Millisecond, time.Minute
	waryRounds           = 8
)

// Faults of a line. They are answers to the question of what to do.
var (
	errBabble = errors.New("the line is never silent: another master, an inverter's noise, or wrong baud or parity")
	errGarble = errors.New("what came is no answer (its check sum is wrong): check baud and parity, the wiring, the termination, and that each unit id is there once")
)

// rtu is the framing without transaction ids, on a serial port or on a socket to
// a device server. An answer is taken if it has the unit, the function and the
// length that were asked for and a right CRC, wherever in the noise it begins;
// whole frames of others are read over.
type rtu struct {
	wire wire
	line *line
	in   [rtuAhead]byte
	have int
	// odd says what was wrong with a whole frame that came while an answer was
	// waited for; empty for none.
	odd string
	// echoes is set once requests were seen to come back, as two-wire adaptors
	// without a receiver switch do.
	echoes bool
	out    [maxRTU]byte
}

var _ framing = (*rtu)(nil)

func newRTU(w wire, l *line) framing { return &rtu{wire: w, line: l} }

// prepare implements framing: it reads until nothing has come for silence. Late
// answers among it are told to their stations.
func (r *rtu) prepare(_ *station, silence time.Duration) error {
	r.have = 0
	limit := time.Now().Add(silence + drainFor)
	for {
		if err := r.wire.SetDeadline(time.Now().Add(max(silence, time.Millisecond))); err != nil {
			return err
		}
		n, err := r.wire.Read(r.in[r.have:])
		r.have += n
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			r.readOver()
			return nil
		case err != nil:
			return err
		case n == 0:
			return io.EOF
		case time.Now().After(limit):
			return &lostAnswer{errBabble}
		}
		if r.have == len(r.in) {
			r.readOver()
			r.have = 0
		}
	}
}

// readOver looks at bytes that nobody waits for.
func (r *rtu) readOver() {
	for rest := r.in[:r.have]; len(rest) >= minRTU; {
		if n := wholeRTU(rest); n > 0 {
			r.foreign(rest[:n])
			rest = rest[n:]
			continue
		}
		rest = rest[1:]
	}
	r.have = 0
}

// foreign takes a whole frame that answers no open request: a late answer, or
// one too many.
func (r *rtu) foreign(frame []byte) {
	s := r.line.of(frame[0])
	if s == nil {
		return
	}
	if s.unsure() {
		s.cameLate(time.Since(s.asked), exceptionOf(frame[1:]))
		return
	}
	s.answersTwice()
}

// exchange implements framing.
func (r *rtu) exchange(s *station, request []byte, deadline time.Time) ([]byte, error) {
	if err := r.wire.SetDeadline(deadline); err != nil {
		return nil, err
	}
	r.have = 0
	if _, err := r.wire.Write(request); err != nil {
		return nil, err
	}
	want := answerShape(request)
	r.odd = ""
	s.missing(want)
	hasty := s.hasty()
	heard := time.Now()
	for {
		answer, early := r.find(s, request, want)
		if answer != nil {
			s.unanswered = s.unanswered[:len(s.unanswered)-1]
			return answer, nil
		}
		early = early || hasty && (r.odd != "" || len(r.heard(request)) > 0)
		if early && time.Since(heard) > rtuGap {
			return nil, &lostAnswer{r.garble()}
		}
		until := deadline
		if early {
			if gap := heard.Add(rtuGap + time.Millisecond); gap.Before(until) {
				until = gap
			}
		}
		if err := r.wire.SetDeadline(until); err != nil {
			return nil, err
		}
		n, err := r.wire.Read(r.in[r.have:])
		r.have += n
		switch {
		case n > 0:
			heard = time.Now()
		case errors.Is(err, os.ErrDeadlineExceeded):
			if s.ctx.Err() != nil {
				return nil, &lostAnswer{s.ctx.Err()}
			}
			if time.Now().Before(deadline) {
				continue // the gap is over, find judges
			}
			return nil, &lostAnswer{r.judge(request, err)}
		case err != nil:
			return nil, err
		default:
			return nil, io.EOF
		}
		if r.have == len(r.in) {
			return nil, &lostAnswer{errBabble}
		}
	}
}

// judge says of a request that ran out of time what was heard meanwhile.
func (r *rtu) judge(request []byte, timeout error) error {
	heard := r.heard(request)
	switch {
	case r.odd != "":
		return r.garble()
	case len(heard) == 0:
		return timeout
	}
	return fmt.Errorf("%w: % x", errGarble, heard[:min(len(heard), 8)])
}

// heard is what came, without what was found out to be somebody's. An echo of the
// request is no answer.
func (r *rtu) heard(request []byte) []byte { return bytes.TrimPrefix(r.in[:r.have], request) }

// garble is errGarble, unless the check sum was right.
func (r *rtu) garble() error {
	if r.odd == "" {
		return errGarble
	}
	return fmt.Errorf("what came is whole, but no answer to this request (%s): two devices may have one unit id, or the device does not speak Modbus as it should", r.odd)
}

// note remembers what is wrong with a whole frame that is no answer to request.
// A late answer of this or of another unit is none of those.
func (r *rtu) note(s *station, frame, request []byte, want shape) {
	sender, earlier := r.line.of(frame[0]), s.unanswered[:len(s.unanswered)-1]
	switch {
	case sender != nil && sender != s && sender.unsure():
	case sender == s && len(earlier) > 0 && (frame[1]&0x80 != 0 || slices.Contains(earlier, shape{frame[1], len(frame)})):
	case frame[0] != s.unit:
		r.odd = fmt.Sprintf("it is of unit %d, and unit %d was asked", frame[0], s.unit)
	case frame[1]&0x7F != want.function:
		r.odd = fmt.Sprintf("it is to function %d, and %d was asked for", frame[1]&0x7F, want.function)
	case frame[1]&0x80 != 0:
		r.odd = "it is an exception without its code"
	case want.function > pdu.FuncCodeReadInputRegisters:
		r.odd = fmt.Sprintf("it confirms % x where % x was written", frame[2:6], request[2:6])
	case len(frame) != 5+int(frame[2]):
		r.odd = fmt.Sprintf("it says %d bytes of data, and %d are in it", frame[2], len(frame)-5)
	default:
		r.odd = fmt.Sprintf("it has %d bytes of data instead of %d", frame[2], want.size-5)
	}
}

// find returns the answer if it is there. early says that a frame of its shape
// has come whole, but not right.
func (r *rtu) find(s *station, request []byte, want shape) (answer []byte, early bool) {
	at := 0
	if bytes.HasPrefix(r.in[:r.have], request) && (r.echoes || !echoLike(request)) {
		// A write is confirmed by the very same bytes: on a line that is known to
		// echo the first are the echo.
		r.echoes, at = true, len(request)
	}
	for at < r.have {
		rest := r.in[at:r.have]
		if n := sizeRTU(rest, want); n > 0 && rest[0] == s.unit && rest[1]&0x7F == want.function {
			if len(rest) >= n && rightCRC(rest[:n]) && fits(rest[:n], request, want) {
				copy(r.out[:], rest[:n])
				return r.out[:n], false
			}
			if len(rest) < n {
				if len(rest) < 3 || rest[1]&0x80 != 0 || want.function > pdu.FuncCodeReadInputRegisters || int(rest[2]) == want.size-5 {
					return nil, early // it may be the answer: what is in it is not looked at
				}
			} else {
				early = true
				if rightCRC(rest[:n]) {
					r.note(s, rest[:n], request, want)
				}
			}
		}
		if n := wholeRTU(rest); n > 0 {
			r.note(s, rest[:n], request, want)
			r.foreign(rest[:n])
			r.have = at + copy(r.in[at:], rest[n:])
			early = false
			continue
		}
		at++
	}
	return nil, early
}

// sizeRTU returns the size of the frame that rest begins with if it answers want
// or is its exception; 0 if it is too short to say.
func sizeRTU(rest []byte, want shape) int {
	switch {
	case len(rest) < 2:
		return 0
	case rest[1]&0x80 != 0:
		return exceptionRTU
	default:
		return want.size
	}
}

const exceptionRTU = 5

// fits reports whether a frame of the right size says what the request asks for.
func fits(frame, request []byte, want shape) bool {
	switch {
	case frame[1]&0x80 != 0:
		return frame[2] != 0
	case want.function <= pdu.FuncCodeReadInputRegisters:
		return int(frame[2]) == want.size-5
	default: // a write echoes the address, and the value or the count
		return bytes.Equal(frame[2:6], request[2:6])
	}
}

// echoLike reports whether the answer to a request is the request again.
func echoLike(request []byte) bool {
	return request[1] == pdu.FuncCodeWriteSingleCoil || request[1] == pdu.FuncCodeWriteSingleRegister
}

// answerShape returns what the answer to a request looks like.
func answerShape(request []byte) shape {
	return shapeOf(request[1], int(binary.BigEndian.Uint16(request[4:])))
}

// shapeOf returns what the answer to a read of so many, or to a write, looks
// like.
func shapeOf(function byte, count int) shape {
	switch function {
	case pdu.FuncCodeReadCoils, pdu.FuncCodeReadDiscreteInputs:
		return shape{function, 5 + (count+7)/8}
	case pdu.FuncCodeReadHoldingRegisters, pdu.FuncCodeReadInputRegisters:
		return shape{function, 5 + 2*count}
	default:
		return shape{function, 8}
	}
}

// wholeRTU returns the size of a right answer of any unit at the start of b, 0
// if there is none.
func wholeRTU(b []byte) int {
	if len(b) < exceptionRTU || b[0] == 0 || b[0] > 247 {
		return 0
	}
	size := 0
	switch b[1] {
	case pdu.FuncCodeReadCoils, pdu.FuncCodeReadDiscreteInputs, pdu.FuncCodeReadHoldingRegisters, pdu.FuncCodeReadInputRegisters:
		size = 5 + int(b[2])
	case pdu.FuncCodeWriteSingleCoil, pdu.FuncCodeWriteSingleRegister, pdu.FuncCodeWriteMultipleCoils, pdu.FuncCodeWriteMultipleRegisters:
		size = 8
	default:
		if b[1]&0x80 != 0 {
			size = exceptionRTU
		}
	}
	if size == 0 || size > len(b) || !rightCRC(b[:size]) {
		return 0
	}
	return size
}

func rightCRC(frame []byte) bool {
	n := len(frame) - 2
	return crc16(frame[:n]) == binary.LittleEndian.Uint16(frame[n:])
}

// crc16 is the check sum of RTU: polynomial 0xA001, reflected, from 0xFFFF
// (MODBUS over Serial Line V1.02, 6.2.2).
func crc16(b []byte) uint16 {
	sum := uint16(0xFFFF)
	for _, c := range b {
		sum = sum>>8 ^ crcTable[byte(sum)^c]
	}
	return sum
}

var crcTable = func() (table [256]uint16) {
	for i := range table {
		sum := uint16(i)
		for range 8 {
			if sum&1 != 0 {
				sum = sum>>1 ^ 0xA001
			} else {
				sum >>= 1
			}
		}
		table[i] = sum
	}
	return table
}()
