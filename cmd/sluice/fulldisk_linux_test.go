package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// TestTheWaitForDiskSpaceIsSeen starts a gateway on a disk that somebody else
// has filled: the page is up and says so, systemd is asked for patience, and the
// gateway goes on by itself when there is room.
func TestTheWaitForDiskSpaceIsSeen(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small disk needs root; buffer's TestOpenWaitsForSpace covers the wait without")
	}
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=160m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })
	foreign := filepath.Join(disk, "somebody-else")
	if err := os.WriteFile(foreign, make([]byte, 155<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "notify")
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer systemd.Close()
	t.Setenv("NOTIFY_SOCKET", socket)
	told := func(want string) {
		t.Helper()
		if err := systemd.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		for message := make([]byte, 4096); ; {
			n, err := systemd.Read(message)
			if err != nil {
				t.Fatalf("systemd is not told %q: %v", want, err)
			}
			if strings.Contains(string(message[:n]), want) {
				return
			}
		}
	}

	config := writeConfig(t, fmt.Sprintf(`site: {enterprise: acme, site: lisbon, area: packing, gateway: edge-1}
buffer: {path: %s, ballast: 0 B}
http: {listen: "127.0.0.1:0"}
devices:
  PLC: {driver: modbus, endpoint: "127.0.0.1:1", interval: 1s, tags: {total: {address: "holding:0", type: uint32}}}
machines:
  PRESS: {device: PLC, counter: {good: total, max_rate: 5/s}}
uplinks:
  broker: {driver: mqtt, url: "tcp://127.0.0.1:1"}
`, filepath.Join(disk, "buffer")))
	p, faults := loadPlan(config, driverKinds, uplinkKinds)
	if len(faults.Errors()) > 0 {
		t.Fatal(faults)
	}
	ctx, cancel := context.WithCancel(context.Background())
	g := newGateway(p, zap.NewNop())
	g.grace = stopSlowly
	ended := make(chan error, 1)
	go func() { ended <- g.run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	told("EXTEND_TIMEOUT_USEC=30000000\nSTATUS=waiting for disk space")
	for path, want := range map[string]struct {
		status int
		text   string
	}{
		"readyz":        {http.StatusServiceUnavailable, "waiting for disk space"},
		"healthz":       {http.StatusOK, ""},
		"":              {http.StatusOK, "waiting for disk space"},
		"api/v1/status": {http.StatusOK, "waiting for disk space"},
		"metrics":       {http.StatusOK, ""},
	} {
		resp, err := http.Get(g.statusURL() + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
		if err != nil || resp.StatusCode != want.status || !strings.Contains(string(body), want.text) {
			t.Errorf("/%s: %d, %v, want %d and %q in %s", path, resp.StatusCode, err, want.status, want.text, body)
		}
	}
	if err := os.Remove(foreign); err != nil {
		t.Fatal(err)
	}
	told("READY=1")
}
