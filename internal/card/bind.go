// Package card is the network card that a device, a caller or a central system is
// reached over, where a plant's computer has two.
package card

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"github.com/sluice-edge/sluice/config"
)

// Bind is "bind:" of a device or an uplink, the network card that it is reached
// over, or that it calls at: the name of the card ("eth1") or one of its addresses. A plant has
// two networks, and both may use the same addresses: it is the card that is used,
// whatever the routes say, and not its address alone. Empty leaves it to the
// routes, and listens on all cards.
type Bind string

// UnmarshalText reads an IP address of this computer or the name of a card.
// Whether it is there is seen when it is used: a card may come later.
func (b *Bind) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	address, err := netip.ParseAddr(s)
	if err == nil && address.IsUnspecified() {
		return config.Field("", fmt.Sprintf("`%s` is the address of no network card", text), "write the card's name as `ip link` shows it, for example eth1, or its address; or leave bind out: the routes decide then")
	}
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
	at, err := b.resolve(err == nil && target.Is6(), "to reach "+address+" from")
	if err != nil {
		return nil, err
	}
	local := &net.TCPAddr{IP: at.own.AsSlice(), Zone: at.own.Zone()}
	d.LocalAddr = local
	d.Control = at.dialled
	conn, err := d.DialContext(ctx, network, address)
	var unfit *net.AddrError
	if errors.As(err, &unfit) && unfit.Addr == local.String() {
		return nil, fmt.Errorf("bind: %s is an address of %s, and %s has none (write an address of the card of %s)", at.own, family(at.own.Is6()), address, family(!at.own.Is6()))
	}
	return conn, err
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
	at, err := b.resolve(false, "to listen at")
	if err != nil {
		return nil, err
	}
	listening.Control = at.listened
	return listening.Listen(ctx, network, net.JoinHostPort(at.own.String(), port))
}

// place is what a socket is bound to.
type place struct {
	own netip.Addr
	// card has own; it is empty for an address of the loopback network, from which
	// nobody but this computer is reached anyway.
	card string
	// all are the addresses of the card.
	all []netip.Addr
}

// dialled binds a socket that is about to connect to address, which is not a name
// any more. What goes to this computer itself does not go over the card.
func (p *place) dialled(network, address string, c syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if peer := to.Addr().Unmap(); peer.IsLoopback() || slices.Contains(p.all, peer) {
		return nil
	}
	return p.listened(network, address, c)
}

func (p *place) listened(_, _ string, c syscall.RawConn) error {
	if p.card == "" {
		return nil
	}
	return onCard(c, p.card)
}

// resolve returns the place to use, of IPv6 or of IPv4 if it is the card that the
// config names. purpose is for the error.
func (b Bind) resolve(v6 bool, purpose string) (*place, error) {
	own, err := netip.ParseAddr(string(b))
	byAddress := err == nil
	if own = own.Unmap(); byAddress && own.IsLoopback() {
		return &place{own: own}, nil
	}
	cards, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("bind: the addresses of the network cards cannot be read: %w (let the gateway use netlink: AF_NETLINK in RestrictAddressFamilies of its systemd unit)", err)
	}
	if byAddress {
		return byOwn(cards, own)
	}
	at := slices.IndexFunc(cards, func(c net.Interface) bool { return c.Name == string(b) })
	if at < 0 {
		return nil, fmt.Errorf("bind: this computer has no network card %s (ip link shows them)", b)
	}
	card := &cards[at]
	if card.Flags&net.FlagUp == 0 {
		return nil, down(card.Name)
	}
	all, err := addresses(card)
	if err != nil {
		return nil, err
	}
	found := slices.IndexFunc(all, func(a netip.Addr) bool { return a.Is6() == v6 })
	if found < 0 {
		return nil, fmt.Errorf("bind: the network card %s has no %s address %s (ip addr)", b, family(v6), purpose)
	}
	return &place{own: zoned(all[found], card.Name), card: card.Name, all: all}, nil
}

// byOwn returns the place with the address own, which one card that is up must have.
func byOwn(cards []net.Interface, own netip.Addr) (found *place, err error) {
	var off string
	for i := range cards {
		card := &cards[i]
		if zone := own.Zone(); zone != "" && zone != card.Name {
			continue
		}
		all, err := addresses(card)
		switch {
		case err != nil:
			return nil, err
		case !slices.Contains(all, own.WithZone("")):
		case card.Flags&net.FlagUp == 0:
			off = card.Name
		case found != nil:
			return nil, fmt.Errorf("bind: the network cards %s and %s both have the address %s (write the name of one of them)", found.card, card.Name, own)
		default:
			found = &place{own: zoned(own, card.Name), card: card.Name, all: all}
		}
	}
	switch {
	case found != nil:
		return found, nil
	case off != "":
		return nil, down(off)
	}
	return nil, fmt.Errorf("bind: this computer has no network card with the address %s (ip addr shows them)", own)
}

func addresses(card *net.Interface) (all []netip.Addr, err error) {
	found, err := card.Addrs()
	if err != nil {
		return nil, fmt.Errorf("bind: the addresses of %s: %w", card.Name, err)
	}
	for _, a := range found {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			all = append(all, prefix.Addr())
		}
	}
	return all, nil
}

// zoned returns own with the card that an address needs which each card may have.
func zoned(own netip.Addr, card string) netip.Addr {
	if own.Is6() && own.IsLinkLocalUnicast() {
		return own.WithZone(card)
	}
	return own
}

func down(card string) error {
	return fmt.Errorf("bind: the network card %s is down (ip link set %s up)", card, card)
}

func family(v6 bool) string {
	if v6 {
		return "IPv6"
	}
	return "IPv4"
}
