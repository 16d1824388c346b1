package nextplus

import (
	"crypto/sha1" //nolint:gosec // RFC 9562 section 5.5 makes name-based UUIDs with it; nothing is secured by them
	"encoding/hex"
	"strings"
)

// namespace is what our UUIDs are made in: the name-based UUID of
// "https://github.com/sluice-edge/sluice/nextplus" in the namespace of URLs (RFC
// 9562 section 6.6). It never changes, or receivers would meet every order and
// unit anew.
var namespace = [16]byte{0x65, 0x1b, 0x23, 0x62, 0xd6, 0xbc, 0x59, 0xb7, 0x8d, 0x3c, 0x9e, 0x34, 0x3d, 0x0e, 0x20, 0x84}

// id returns the name-based UUID, version 5 (RFC 9562 section 5.5), of what is
// named by parts: the same for the same, today and after a reinstallation.
func id(parts ...string) string {
	h := sha1.New() //nolint:gosec // as above
	h.Write(namespace[:])
	// A byte that stands in no text keeps ("a", "bc") apart from ("ab", "c").
	h.Write([]byte(strings.Join(parts, "\x00")))
	var u [16]byte
	copy(u[:], h.Sum(nil))
	u[6] = u[6]&0x0f | 0x50 // version 5
	u[8] = u[8]&0x3f | 0x80 // variant of RFC 9562
	text := hex.EncodeToString(u[:])
	return text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:]
}
