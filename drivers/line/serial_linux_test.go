package line

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluice-edge/sluice/plant"
)

// terminal returns a pair of pseudo terminals: what is written to one end comes
// out of the port called name.
func terminal(t *testing.T) (far *os.File, name string) {
	t.Helper()
	far, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	raw, err := far.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	var failed error
	if err := raw.Control(func(fd uintptr) {
		if failed = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); failed == nil {
			n, failed = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	}); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	return far, fmt.Sprintf("/dev/pts/%d", n)
}

const onSerial = `
driver: line
port: PORT
baud: 19200
start: stx
end: etx
tags: {code: line, n: sequence, dropped: dropped}
`

// A scanner at a serial port: lines come, also while nobody reads, and one that
// has no place is a number that is missing.
func TestSerialScanner(t *testing.T) {
	far, name := terminal(t)
	d := opened(t, strings.Replace(onSerial, "PORT", name, 1)+"queue: 2\n", units)
	if err := d.Connect(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		t.Helper()
		if _, err := far.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	write("noise\x02UNIT0001\x03\x02UNIT0001\x03")
	equal(t, records(t, d, 2), "1 UNIT0001", "2 UNIT0001")
	write("\x02A\x03\x02B\x03\x02C\x03\x02D\x03")
	// Two of them wait, two have no place: the newest says so, though no other comes,
	// and its number tells of the one before.
	counts := &d.(*driver).counts
	for deadline := time.Now().Add(patience); counts.sequence.Load() < 6 || counts.dropped.Load() < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d lines, %d dropped", counts.sequence.Load(), counts.dropped.Load())
		}
	}
	equal(t, records(t, d, 2), "3 A", "4 B")
	none := records(t, d, 1)
	equal(t, none, "6 bad")
	if r := field(none[0], "code"); r.Cause != "the line `D` had no place in the queue (queue, max_rate), like those whose numbers are missing before it" {
		t.Errorf("no place: %q", r.Cause)
	}
	write("\x02E\x03")
	equal(t, records(t, d, 1), "7 E")
	// The adapter is unplugged: an error in time, not a spinning read.
	if err := far.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		if _, err := d.Read(ctx); err != nil {
			if ctx.Err() != nil {
				t.Fatal("a port that hung up was not noticed")
			}
			break
		}
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// A scale at a serial port is asked, and what it says of itself is told.
func TestSerialScale(t *testing.T) {
	far, name := terminal(t)
	answers := []string{"S S     100.00 g\r\n", "S D      99.50 g\r\n", "S +\r\n"}
	go func() {
		b := make([]byte, 64)
		var asked string
		for i := 0; ; {
			n, err := far.Read(b)
			if err != nil {
				return
			}
			for asked += string(b[:n]); strings.Contains(asked, "SI\r\n"); i++ {
				asked = strings.Replace(asked, "SI\r\n", "", 1)
				if _, err := far.WriteString(answers[min(i, len(answers)-1)]); err != nil {
					return
				}
			}
		}
	}()
	d := opened(t, "{driver: line, port: "+name+", format: mt-sics, poll: SI, timeout: 10s, tags: {weight: {field: weight, unit: g}, stable: stable, status: status}}")
	if err := d.Connect(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"100.00 true S", "99.50 false D", "bad false +"} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		scans, err := d.Read(ctx)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, tag := range []plant.TagID{"weight", "stable", "status"} {
			r := field(scans[0], tag)
			if r.Quality != plant.Good {
				got = append(got, "bad")
				continue
			}
			got = append(got, r.Value.Text())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// A port that is not there says what to look at.
func TestSerialPortThatIsAway(t *testing.T) {
	d := opened(t, strings.Replace(onSerial, "PORT", t.TempDir()+"/ttyUSB9", 1))
	if err := d.Connect(t.Context(), 1); err == nil || !strings.Contains(err.Error(), "dialout") {
		t.Errorf("%v", err)
	}
}
