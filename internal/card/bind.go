// Package card is the network card that a device, a caller or a central system is
// reached over, where a plant's computer has two.
package card

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/sluice-edge/sluice/config"
)

// Bind is "bind:" of a device or an uplink, the network card that it is reached
// over, or that it calls at: the name of the card ("eth1") or one of its addresses. A plant has
// two networks, and both may use the same addresses. Empty leaves it to the
// routes, and listens on all cards.
type Bind string

// UnmarshalText reads an IP address of this computer or the name of a card.
// Whether it is there is seen when it is used: a card may come later.
func (b *Bind) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	_, err := netip.ParseAddr(s)
	const longest = 15 // IFNAMSIZ less the NUL, on Linux
	named := err != nil && s != "" && !strings.ContainsAny(s, " /:\t") && strings.Trim(s, "0123456789.") != "" && len(s) <= longest
	if err != nil && !named {
		return config.Field("", fmt.Sprintf("`%s` is neither a network card nor an IP address", text), "write the card's name as `ip link` shows it, for example eth1, or its address, without a port")
	}
	*b = Bind(s)
	return nil
}

// Dial connects to address over the card. It blocks until connected, refused, or
// ctx ends. It may be called from any goroutine.
func (b Bind) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return b.DialBy(ctx, net.Dialer{}, network, address)
}

// DialBy is Dial with what d says of connecting.
func (b Bind) DialBy(ctx context.Context, d net.Dialer, network, address string) (net.Conn, error) {
	if b == "" {
		return d.DialContext(ctx, network, address)
	}
	// The peer may be a name of both families: IPv4 is what plants have.
	host, _, _ := net.SplitHostPort(address)
	target, err := netip.ParseAddr(host)
	own, card, err := b.resolve(err == nil && target.Is6(), "to reach "+address+" from")
	if err != nil {
		return nil, err
	}
	d.LocalAddr = &net.TCPAddr{IP: own.AsSlice(), Zone: own.Zone()}
	if card != "" {
		d.Control = onCard(card)
	}
	return d.DialContext(ctx, network, address)
}

// Listen announces on the port of address, which names no host where there is a
// Bind: then only who is on that card's network can call. It is the address that
// the card has at this moment. It may be called from any goroutine; the errors
// are those of net.ListenConfig, and that there is no such card, or that it has
// no IPv4 address.
func (b Bind) Listen(ctx context.Context, listening net.ListenConfig, network, address string) (net.Listener, error) {
	if b == "" {
		return listening.Listen(ctx, network, address)
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	own, card, err := b.resolve(false, "to listen at")
	if err != nil {
		return nil, err
	}
	if card != "" {
		listening.Control = onCard(card)
	}
	return listening.Listen(ctx, network, net.JoinHostPort(own.String(), port))
}

// resolve returns the own address to use, of IPv6 or of IPv4 if it is the card
// that the config names, and that card's name. purpose is for the error.
func (b Bind) resolve(v6 bool, purpose string) (own netip.Addr, card string, err error) {
	if own, err = netip.ParseAddr(string(b)); err == nil {
		return own, "", nil
	}
	found, err := net.InterfaceByName(string(b))
	if err != nil {
		return own, "", fmt.Errorf("bind: this computer has no network card %s (ip link shows them)", b)
	}
	if found.Flags&net.FlagUp == 0 {
		return own, "", fmt.Errorf("bind: the network card %s is down (ip link set %s up)", b, b)
	}
	addresses, err := found.Addrs()
	if err != nil {
		return own, "", fmt.Errorf("bind: the addresses of %s: %w", b, err)
	}
	for _, a := range addresses {
		prefix, err := netip.ParsePrefix(a.String())
		if err == nil && prefix.Addr().Is6() == v6 {
			own = prefix.Addr()
			if own.Is6() && own.IsLinkLocalUnicast() {
				own = own.WithZone(string(b))
			}
			return own, string(b), nil
		}
	}
	family := "IPv4"
	if v6 {
		family = "IPv6"
	}
	return own, "", fmt.Errorf("bind: the network card %s has no %s address %s (ip addr)", b, family, purpose)
}
