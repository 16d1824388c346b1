//go:build e2e

package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestE2EDiskFull fills the file system of the buffer under a gateway at work:
// recording stops before Badger is hurt, is named, and goes on when there is
// space; every piece made meanwhile is counted, once.
func TestE2EDiskFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	b := newE2EBed(t, buildSluice(t))
	disk := filepath.Join(b.dir, "buffer")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("sluice-e2e", disk, "tmpfs", 0, "size=160m"); err != nil {
		t.Skipf("no tmpfs can be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })

	cmd := b.start()
	b.firstLook()
	b.plant.do("start", -1, 0)
	b.arrivals(10*time.Second, 20)

	filler := filepath.Join(disk, "somebody-elses-file")
	fillDisk(t, disk, filler, 40<<20) // under the reserve of 64 MiB
	b.until(20*time.Second, "the full disk is not named", func() bool { return b.status(t).Buffer.Full })
	at := b.mes.Delivered()
	b.until(10*time.Second, "the machines do not say that they wait", func() bool {
		return strings.Contains(b.page(), "full")
	})
	b.kill(cmd) // a kill while full must not lock the gateway out
	cmd = b.start()
	b.until(20*time.Second, "the gateway does not start on a full disk", func() bool { return b.page() != "" })
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	b.until(30*time.Second, "recording does not go on after there is space", func() bool { return b.mes.Delivered() > at+20 })
	b.plant.do("stop", -1, 9)
	b.settle(cmd)
	t.Log(b.report())
	if wrong := b.differences(); len(wrong) > 0 {
		t.Errorf("made and arrived differ:\n%s", strings.Join(wrong, "\n"))
	}
}

// fillDisk writes a file until only free bytes are left.
func fillDisk(t *testing.T, dir, file string, free uint64) {
	t.Helper()
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	size := fs.Bavail*uint64(fs.Bsize) - free
	if err := os.WriteFile(file, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestE2ESilentBroker freezes the connection to the broker without closing it,
// for longer than the acknowledgement may take, and takes a PLC's power.
func TestE2ESilentBroker(t *testing.T) {
	b := newE2EBed(t, buildSluice(t))
	cmd := b.start()
	b.firstLook()
	b.plant.do("start", -1, 0)
	b.arrivals(10*time.Second, 20)
	b.proxy.Stall()
	b.until(20*time.Second, "the silent broker is not noticed", func() bool {
		s := b.status(t)
		return len(s.Uplinks) == 1 && s.Uplinks[0].LastError != ""
	})
	b.plant.do("stop", 1, 7)
	b.until(10*time.Second, "the stop of M-1 was not seen", func() bool {
		for _, m := range b.status(t).Machines {
			if m.Machine == "M-1" && m.Running != nil && !*m.Running {
				return true
			}
		}
		return false
	})
	// Its counters begin at 0. M-1's 32-bit counter is far from its end, so a
	// fall to 0 can only be a restart; near the end nobody could tell.
	b.plant.do("restart", 1, 0)
	b.proxy.Pass()
	b.until(30*time.Second, "delivery does not go on", func() bool { return b.status(t).Uplinks[0].Backlog == 0 })
	b.plant.do("start", 1, 0)
	b.arrivals(10*time.Second, 20)
	b.plant.do("stop", -1, 9)
	b.settle(cmd)
	t.Log(b.report())
	if wrong := b.differences(); len(wrong) > 0 {
		t.Errorf("made and arrived differ:\n%s", strings.Join(wrong, "\n"))
	}
}

// e2eStatus is what the tests read of /api/v1/status.
type e2eStatus struct {
	Buffer struct {
		Full bool `json:"full"`
	} `json:"buffer"`
	Devices []struct {
		Device    string `json:"device"`
		Connected bool   `json:"connected"`
		Session   uint64 `json:"session"`
	} `json:"devices"`
	Machines []struct {
		Machine string `json:"machine"`
		Running *bool  `json:"running"`
	} `json:"machines"`
	Uplinks []struct {
		LastError string `json:"last_error"`
		Backlog   uint64 `json:"backlog"`
	} `json:"uplinks"`
}

var pageAddress = regexp.MustCompile(`"page": ?"(http://[^"]+)"`)

// get asks the gateway that started last; an empty answer while it starts.
func (b *e2eBed) get(path string) []byte {
	found := pageAddress.FindAllStringSubmatch(b.output.String(), -1)
	if len(found) == 0 {
		return nil
	}
	client := http.Client{Timeout: 2 * time.Second}
	r, err := client.Get(found[len(found)-1][1] + path)
	if err != nil {
		return nil
	}
	defer func() { _ = r.Body.Close() }()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil
	}
	return body
}

func (b *e2eBed) page() string { return string(b.get("")) }

func (b *e2eBed) status(t *testing.T) (s e2eStatus) {
	t.Helper()
	if body := b.get("api/v1/status"); body != nil {
		if err := json.Unmarshal(body, &s); err != nil {
			t.Fatalf("the status is no JSON: %v\n%s", err, body)
		}
	}
	return s
}

// TestE2ESystemd plays systemd's side of the notify protocol: ready once it is,
// fed while it works, told when it stops.
func TestE2ESystemd(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	b := newE2EBed(t, buildSluice(t), "NOTIFY_SOCKET="+socket, "WATCHDOG_USEC=300000")
	cmd := b.start()
	told := func(want string) {
		t.Helper()
		buffer := make([]byte, 1024)
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, err := conn.Read(buffer)
		// A message is a list of assignments, one a line (sd_notify(3)).
		if err != nil || !slices.Contains(strings.Split(string(buffer[:n]), "\n"), want) {
			t.Fatalf("systemd was told %q (%v), want %q", buffer[:n], err, want)
		}
	}
	told("READY=1")
	told("WATCHDOG=1")
	told("WATCHDOG=1")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for buffer := make([]byte, 256); ; {
		n, err := conn.Read(buffer)
		if err != nil {
			t.Fatalf("systemd was never told STOPPING=1: %v", err)
		}
		if slices.Contains(strings.Split(string(buffer[:n]), "\n"), "STOPPING=1") {
			break
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the gateway did not end in order: %v\n%s", err, b.output.tail())
	}
}
