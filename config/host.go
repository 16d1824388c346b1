package config

import (
	"fmt"
	"net/netip"
	"strings"
)

// HostProblem says why host, without a port, can be neither an IP address nor
// the name of a computer, as the end of a sentence; it is empty if it can. What
// has only digits and points is meant as an IPv4 address, which a name server
// would be asked for in vain. Names are of letters, digits, "-" and "." (RFC
// 1123, section 2.1), and of "_", which some networks use.
func HostProblem(host string) string {
	switch {
	case host == "":
		return "names no host"
	case strings.Contains(host, ":"):
		if a, err := netip.ParseAddr(host); err != nil || !a.Is6() {
			return "holds no IPv6 address"
		}
		return ""
	case strings.Trim(host, "0123456789.") == "":
		if _, err := netip.ParseAddr(host); err != nil {
			return "holds no IPv4 address, which is four numbers from 0 to 255"
		}
		return ""
	}
	for _, r := range host {
		if !hostRune(r) {
			return fmt.Sprintf("holds %q, which no host name has", r)
		}
	}
	const longest, longestLabel = 253, 63 // RFC 1035, section 2.3.4
	for label := range strings.SplitSeq(strings.TrimSuffix(host, "."), ".") {
		if label == "" || len(label) > longestLabel || len(host) > longest {
			return "holds no host name: a part between two points is empty, or it is too long"
		}
	}
	return ""
}

func hostRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_'
}
