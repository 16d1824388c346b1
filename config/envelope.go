package config

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // an industrial PC may have no time zones of its own
	"unicode"
)

// Site says where the gateway is, in ISA-95 terms. Events carry the names.
type Site struct {
	Enterprise string `yaml:"enterprise,required"`
	Site       string `yaml:"site,required"`
	Area       string `yaml:"area,required"`
	// Timezone is an IANA name such as Europe/Lisbon; empty means UTC.
	Timezone string `yaml:"timezone"`
	// Shifts are when people work here, in local time; a machine may have its own.
	Shifts Shifts `yaml:"shifts"`
	// Gateway names this gateway in event ids; by default after the host.
	Gateway string `yaml:"gateway"`
}

// Path returns "/enterprise/site/area", which a machine's source begins with.
func (s Site) Path() string { return "/" + s.Enterprise + "/" + s.Site + "/" + s.Area }

// Location returns the site's time zone. The zones are part of the binary, so
// it cannot fail for a validated Site; it is UTC otherwise.
func (s Site) Location() *time.Location {
	zone, err := time.LoadLocation(s.Timezone)
	if err != nil {
		return time.UTC
	}
	return zone
}

// Validate checks that the names can stand in ids, topics and paths.
func (s *Site) Validate() error {
	var errs []error
	for _, f := range []struct{ path, name string }{
		{"enterprise", s.Enterprise}, {"site", s.Site}, {"area", s.Area}, {"gateway", s.Gateway},
	} {
		if f.path == "gateway" && f.name == "" {
			continue
		}
		if problem := unusable(f.name); problem != "" {
			errs = append(errs, Field(f.path, "the name "+problem, nameRemedy))
		}
	}
	errs = append(errs, checkZone(s.Timezone), CheckShifts("shifts", s.Shifts))
	return errors.Join(errs...)
}

// Buffer says where events are kept and how much room they may take.
type Buffer struct {
	// Path is the folder of the store.
	Path Path `yaml:"path"`
	// Quota is how many bytes the store may take.
	Quota Size `yaml:"quota"`
	// Keep is how long delivered events stay for a resend.
	Keep Duration `yaml:"keep"`
	// Reserve is how many bytes of the disk stay free: recording stops before.
	Reserve Size `yaml:"reserve"`
	// WhenFull is what becomes of new events when the room is used up by events
	// that are not delivered: stop or evict_oldest.
	WhenFull string `yaml:"when_full"`
	// EvictParameters says that parameters are evicted before that.
	EvictParameters bool `yaml:"evict_parameters"`
	// DeadLetters is how many refused events are kept at most, DeadLettersShare the
	// per cent of Quota that they may take.
	DeadLetters      int `yaml:"dead_letters"`
	DeadLettersShare int `yaml:"dead_letters_share"`
	// Ballast is how many bytes are put aside for a start on a full disk.
	Ballast Size `yaml:"ballast"`
	// Linger is how long a commit waits at most for others to share its fsync.
	Linger Duration `yaml:"linger"`
	// Key encrypts the store at rest.
	Key Secret `yaml:"key"`
}

// EncryptionKey returns the bytes of Key, nil for a store that is not encrypted.
// Its text is read as hexadecimal digits if it is that, else as base64, else as
// it stands; what is meant has 16, 24 or 32 bytes. The error does not show it.
func (b *Buffer) EncryptionKey() ([]byte, error) {
	text := b.Key.Reveal()
	switch {
	case b.Key.IsZero():
		return nil, nil
	case text == "":
		return nil, errors.New("the key of the store is not there on this computer (buffer: key:)")
	}
	fits := func(k []byte, err error) bool { return err == nil && (len(k) == 16 || len(k) == 24 || len(k) == 32) }
	if k, err := hex.DecodeString(text); fits(k, err) {
		return k, nil
	}
	if k, err := base64.StdEncoding.DecodeString(text); fits(k, err) {
		return k, nil
	}
	if k := []byte(text); fits(k, nil) {
		return k, nil
	}
	return nil, fmt.Errorf("a key of %d characters", len(text))
}

// Bounds of Buffer.
const (
	minQuota   Size = 64 << 20
	minReserve Size = 32 << 20
	maxBallast Size = 1 << 30
	maxLinger       = Duration(20 * time.Millisecond)

	minDeadLetters, maxDeadLetters = 100, 1_000_000
	maxDeadShare                   = 50
)

func defaultBuffer() Buffer {
	return Buffer{
		Path: "/var/lib/sluice", Quota: 2 << 30, Keep: Duration(7 * 24 * time.Hour),
		WhenFull: "stop", EvictParameters: true, DeadLetters: 10_000, DeadLettersShare: 10,
		Reserve: 64 << 20, Ballast: 32 << 20, Linger: Duration(2 * time.Millisecond),
	}
}

// Validate checks the bounds.
func (b *Buffer) Validate() error {
	var errs []error
	if b.Quota < minQuota {
		errs = append(errs, Field("quota", fmt.Sprintf("%s is too little room for the store", b.Quota), "write at least "+minQuota.String()))
	}
	if b.Reserve < minReserve {
		errs = append(errs, Field("reserve", fmt.Sprintf("%s is too little to stop before the disk is full", b.Reserve), "write at least "+minReserve.String()))
	}
	if _, err := b.EncryptionKey(); err != nil && b.Key.Reveal() != "" {
		errs = append(errs, Field("key", err.Error(), "write 16, 24 or 32 bytes, also as hexadecimal digits or base64: openssl rand -hex 32"))
	}
	if b.WhenFull != "stop" && b.WhenFull != "evict_oldest" {
		errs = append(errs, Field("when_full", fmt.Sprintf("`%s` is no policy", shorten(b.WhenFull)), "write stop or evict_oldest"))
	}
	if b.DeadLetters < minDeadLetters || b.DeadLetters > maxDeadLetters {
		errs = append(errs, Field("dead_letters", fmt.Sprintf("%d is out of range", b.DeadLetters), fmt.Sprintf("write %d to %d; 10000 is usual", minDeadLetters, maxDeadLetters)))
	}
	if b.DeadLettersShare < 1 || b.DeadLettersShare > maxDeadShare {
		errs = append(errs, Field("dead_letters_share", fmt.Sprintf("%d per cent is out of range", b.DeadLettersShare), fmt.Sprintf("write 1 to %d; 10 is usual", maxDeadShare)))
	}
	if b.Ballast > maxBallast {
		errs = append(errs, Field("ballast", fmt.Sprintf("%s is put aside and never used", b.Ballast), "write at most "+maxBallast.String()+"; 32 MiB is usual, 0 B is none"))
	}
	if b.Linger > maxLinger {
		errs = append(errs, Field("linger", fmt.Sprintf("%s would hold every event back", b.Linger), "write at most 20ms; 2ms is usual"))
	}
	return errors.Join(errs...)
}

// HTTP says where the status page is served.
type HTTP struct {
	// Listen is host:port.
	Listen string `yaml:"listen"`
}

func defaultHTTP() HTTP { return HTTP{Listen: "127.0.0.1:8080"} }

// Validate refuses addresses that other computers could reach: this version has
// neither TLS nor a password to protect them.
func (h *HTTP) Validate() error {
	const remedy = "write host:port, for example 127.0.0.1:8080"
	host, port, err := net.SplitHostPort(h.Listen)
	if err != nil {
		return Field("listen", fmt.Sprintf("`%s` is no address", shorten(h.Listen)), remedy)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return Field("listen", fmt.Sprintf("`%s` is no port", shorten(port)), remedy)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return Field("listen", fmt.Sprintf("`%s` can be reached from other computers, and the page has no TLS and no password yet", shorten(h.Listen)),
			"listen on 127.0.0.1 and put a reverse proxy or an SSH tunnel in front")
	}
	return nil
}

// Log bounds the integration log: what was exchanged with the central systems.
type Log struct {
	// Size is how many bytes all of it may take.
	Size Size `yaml:"size"`
	// Keep is how long an entry stays.
	Keep Duration `yaml:"keep"`
}

const (
	minLog, maxLog Size = 4 << 20, 4 << 30
	minLogFor           = Duration(24 * time.Hour)
)

func defaultLog() Log { return Log{Size: 64 << 20, Keep: Duration(30 * 24 * time.Hour)} }

// Validate checks the bounds.
func (l *Log) Validate() error {
	var errs []error
	if l.Size < minLog || l.Size > maxLog {
		errs = append(errs, Field("size", fmt.Sprintf("%s is out of range", l.Size), "write 4 MiB to 4 GiB; 64 MiB is usual"))
	}
	if l.Keep < minLogFor {
		errs = append(errs, Field("keep", fmt.Sprintf("%s is too short to find out what was yesterday", l.Keep), "write at least 1d; 30d is usual"))
	}
	return errors.Join(errs...)
}

const nameRemedy = "use letters, digits, - _ . and, inside of it, spaces"

// longestName is how many bytes a name may have.
const longestName = 100

// unusable says why a name cannot stand in an event id, a topic and a path;
// empty if it can. "/" parts all three, + and # are MQTT's wildcards, a
// backslash parts paths elsewhere, and what cannot be seen cannot be compared
// by eye. Anything else a plant may call itself.
func unusable(name string) string {
	switch {
	case name == "":
		return "is empty"
	case name == "." || name == "..":
		return "is a folder's"
	case name[0] == '_' || name[0] == '$':
		return fmt.Sprintf("begins with `%c`, which is reserved", name[0])
	case len(name) > longestName:
		return fmt.Sprintf("is longer than %d bytes", longestName)
	case strings.TrimSpace(name) != name:
		return "begins or ends with a space"
	}
	for _, r := range name {
		if strings.ContainsRune(`/+#\`, r) || !unicode.IsPrint(r) {
			return fmt.Sprintf("holds %q, which ids, topics or paths use otherwise", r)
		}
	}
	return ""
}

// hostName makes a gateway's name of the host's.
func hostName() string {
	host, err := os.Hostname()
	if err != nil {
		return "gateway"
	}
	name := strings.Trim(strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/+#\_$ `, r) || !unicode.IsPrint(r) {
			return '-'
		}
		return r
	}, host), "-.")
	if unusable(name) != "" {
		return "gateway"
	}
	return name
}
