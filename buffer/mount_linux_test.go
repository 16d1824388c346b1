package buffer

import (
	"strings"
	"testing"
)

func TestMountWarnings(t *testing.T) {
	const info = `22 1 254:0 / / rw,relatime - ext4 /dev/vda rw,errors=remount-ro
30 22 0:25 / /run rw,nosuid - tmpfs tmpfs rw,size=100k
31 22 0:26 / /mnt/a\040b rw - nfs4 server:/x rw,vers=4.2
32 22 0:27 / /over rw - overlay overlay rw,lowerdir=/a
33 22 0:28 / /fuse rw - fuse.sshfs host: rw
34 22 7:1 / /plain rw - ext4 /dev/loop1 rw
35 22 7:2 / /fast rw - ext4 /dev/loop2 rw,nobarrier
36 22 0:40 / /data rw - tmpfs first rw
37 36 7:2 / /data rw - ext4 /dev/loop2 rw
38 22 8:1 / /usb rw - vfat /dev/sda1 rw
rubbish
`
	mounts := readMounts(strings.NewReader(info))
	journal := func(device string) (bool, bool) { return device != "7:1", device != "254:0" }
	for path, want := range map[string]string{
		"/var/lib/sluice":   "",
		"/run/sluice":       "in memory",
		"/runaway":          "",
		"/mnt/a b/c":        "another computer's disk",
		"/over":             "container",
		"/fuse/x":           "a program serves",
		"/plain/x":          "without its journal",
		"/fast":             "nobarrier",
		"/data/sluice":      "",
		"/usb/sluice/store": "without a journal",
	} {
		m, ok := mountOf(mounts, path)
		if !ok {
			t.Errorf("%s: no mount found", path)
			continue
		}
		got := m.warnings(path, journal)
		switch {
		case want == "" && len(got) > 0:
			t.Errorf("%s: %q, want nothing", path, got)
		case want != "" && (len(got) != 1 || !strings.Contains(got[0], want) || !strings.Contains(got[0], path)):
			t.Errorf("%s: %q, want one about %q", path, got, want)
		}
	}
}

// TestMountWarningsOfRealDisks asks the kernel.
func TestMountWarningsOfRealDisks(t *testing.T) {
	has := func(path, want string) {
		t.Helper()
		got := strings.Join(mountWarnings(path), "\n")
		if (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	has(smallDisk(t, "1m"), "in memory")
	has(loopDisk(t, 16<<20), "")
	has(loopDisk(t, 16<<20, "-O", "^has_journal"), "without its journal")
}
