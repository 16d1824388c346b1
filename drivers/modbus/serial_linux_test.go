package modbus

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluice-edge/sluice/plant"
)

// newPTY makes a serial line without hardware: what is written to one end is read from
// the other.
func newPTY(t *testing.T) (far *os.File, port string) {
	t.Helper()
	far, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	if err := unix.IoctlSetPointerInt(int(far.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(far.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(int(far.Fd()), true); err != nil {
		t.Fatal(err)
	}
	return far, "/dev/pts/" + strconv.Itoa(n)
}

// serveFrom serves what hangs on a pty until its end is closed.
func (b *bus) serveFrom(far *os.File) (stop func()) {
	var serving sync.WaitGroup
	serving.Go(func() { b.serve(far) })
	return func() {
		far.Close()
		serving.Wait()
	}
}

func TestSerialLine(t *testing.T) {
	b := newBus(t, func(request []byte) [][]byte {
		if request[0] == 3 {
			return nil
		}
		if request[1] == 6 {
			return [][]byte{request}
		}
		return [][]byte{ownRegisters(request)}
	})
	far, port := newPTY(t)
	// A pty hangs up when nobody has its near end open any more, a wire does not.
	near, err := os.OpenFile(port, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	stop := b.serveFrom(far)
	defer stop()
	l := openLine(t, "port: "+port+"\nbaud: 115200\nparity: none\n")
	one, two, dead := onLine(t, l, "unit: 1\n"+patientTags), onLine(t, l, "unit: 2\n"+patientTags), onLine(t, l, "unit: 3\n"+fourTags)
	for session := uint64(1); session < 3; session++ {
		for i, d := range []*driver{one, two} {
			if err := d.Connect(t.Context(), session); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				scans, err := d.Read(t.Context())
				if err != nil || wantOwn(t, i+1, scans) != 4 {
					t.Fatal(scans, err)
				}
			}
			if err := d.Write(t.Context(), plant.Write{Session: session, Tag: "a", Value: plant.IntValue(9)}); err != nil {
				t.Error(err)
			}
		}
		if err := dead.Connect(t.Context(), session); err != nil {
			t.Fatal(err)
		}
		if _, err := dead.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "no answer of unit 3") {
			t.Errorf("a unit that is off: %v", err)
		}
		for _, d := range []*driver{one, two, dead} {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// The adaptor is pulled out: an error at once, no endless loop, and a port that
// is named by the error of the next try.
func TestSerialLineThatIsPulledOut(t *testing.T) {
	b := newBus(t, func(request []byte) [][]byte { return [][]byte{ownRegisters(request)} })
	far, port := newPTY(t)
	stop := b.serveFrom(far)
	d := onLine(t, openLine(t, "port: "+port+"\n"), "unit: 1\n"+patientTags)
	defer d.Close()
	if err := d.Connect(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop()
	begin := time.Now()
	if _, err := d.Read(t.Context()); err == nil {
		t.Fatal("a line without an adaptor answered")
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("it took %v, a time-out is 20s", took)
	}
	d.Close()
	<-time.After(redialAfter) // a port that has just failed is left alone
	if err := d.Connect(t.Context(), 2); err == nil || !strings.Contains(err.Error(), "is not there") {
		t.Errorf("connect: %v, want that the port is not there", err)
	}
}
