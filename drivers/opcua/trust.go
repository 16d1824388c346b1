package opcua

import (
	"bytes"
	"cmp"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/gopcua/opcua/ua"
	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/internal/pki"
)

// verify checks the certificate of an endpoint against the pin, and its dates.
// What the library does with it afterwards proves that the server has its key.
func verify(der []byte, pin Fingerprint, now time.Time) (*x509.Certificate, error) {
	cert, err := firstCertificate(der)
	if err != nil {
		return nil, errors.New("the server shows no certificate that can be read")
	}
	want, err := hex.DecodeString(string(pin))
	if sum := sha256.Sum256(cert.Raw); err != nil || !bytes.Equal(sum[:], want) {
		return nil, fmt.Errorf("the server's certificate is not the trusted one: its SHA-256 is %s, server_sha256 in the config is %s; if it was renewed on purpose, compare the first with what the server's own tool shows and write it as server_sha256", hex.EncodeToString(sum[:]), cmp.Or(string(pin), "empty"))
	}
	public, ok := cert.PublicKey.(*rsa.PublicKey)
	switch {
	case !ok || public.N.BitLen() < 2048:
		return nil, errors.New("the server's certificate has no RSA key of at least 2048 bits")
	case now.Before(cert.NotBefore):
		return nil, fmt.Errorf("the server's certificate is valid only from %s; is the clock of this computer right?", cert.NotBefore.Format(time.RFC3339))
	case now.After(cert.NotAfter):
		return nil, fmt.Errorf("the server's certificate ended on %s; give the server a new one", cert.NotAfter.Format(time.RFC3339))
	}
	return cert, nil
}

// standing is what the page should know of the certificates of a device.
type standing struct {
	mu     sync.Mutex
	doubts []string  // about the server's
	since  time.Time // of doubts
	ends   time.Time // of the gateway's own; zero while it is not known
}

// judge checks the certificate of a chosen endpoint: by the pin of the config, by
// the store, or, where the config says so, hardly at all.
func (d *driver) judge(e *ua.EndpointDescription) (*x509.Certificate, error) {
	now := time.Now()
	if d.o.ServerSHA256 != "" {
		return verify(e.ServerCertificate, d.o.ServerSHA256, now)
	}
	chain, err := x509.ParseCertificates(e.ServerCertificate)
	if err != nil || len(chain) == 0 {
		return nil, errors.New("the server shows no certificate that can be read")
	}
	if d.o.Trust == TrustAny {
		if _, ok := chain[0].PublicKey.(*rsa.PublicKey); !ok {
			return nil, errors.New("the server's certificate has no RSA key")
		}
		return chain[0], nil
	}
	if d.certificates == nil {
		return nil, errors.New("there is no folder of trusted certificates: name one with pki, or the server's certificate with server_sha256")
	}
	peer := pki.Peer{Device: string(d.device), Chain: chain, Host: d.o.Endpoint.host(), Now: now}
	if e.Server != nil {
		peer.URI = e.Server.ApplicationURI
	}
	doubts, err := d.certificates.Verify(peer)
	if err != nil {
		return nil, err
	}
	d.standing.mu.Lock()
	defer d.standing.mu.Unlock()
	if !slices.Equal(d.standing.doubts, doubts) {
		d.standing.doubts, d.standing.since = doubts, now
	}
	return chain[0], nil
}

// host returns the host of the endpoint, without brackets.
func (e Endpoint) host() string {
	u, err := url.Parse(string(e))
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// own returns who the gateway is: by the files of the config, else by the
// certificate of its own, which is made the first time.
func (d *driver) own() (identity, error) {
	if d.identity.cert != nil {
		d.ends(d.identity.cert)
		return d.identity, nil
	}
	if d.certificates == nil {
		return identity{}, errors.New("the gateway has no certificate: name one with cert and key")
	}
	id, made, err := d.certificates.Own(d.gateway)
	if err != nil {
		return identity{}, err
	}
	if made {
		d.log.Info("the gateway has made its own certificate: let the server trust it",
			zap.String("folder", d.certificates.Folder()), zap.String("sha256", pki.Fingerprint(id.Certificate)), zap.Time("until", id.Certificate.NotAfter))
	}
	d.ends(id.Certificate.Raw)
	return identity{cert: id.Certificate.Raw, key: id.Key}, nil
}

// ends remembers when the gateway's certificate ends, for the page.
func (d *driver) ends(der []byte) {
	if cert, err := x509.ParseCertificate(der); err == nil {
		d.standing.mu.Lock()
		defer d.standing.mu.Unlock()
		d.standing.ends = cert.NotAfter
	}
}

const day = 24 * time.Hour

// Notices implements drivers.Noticer: channels that anybody can listen to stay
// amber for as long as the config wants them so, and certificates that end are
// told 30 days, 14 days and a day ahead.
func (d *driver) Notices() []drivers.Notice { return d.notices(time.Now()) }

func (d *driver) notices(now time.Time) (all []drivers.Notice) {
	d.standing.mu.Lock()
	defer d.standing.mu.Unlock()
	if end := d.standing.ends; !end.IsZero() {
		n := drivers.Notice{Text: "the gateway's certificate ends on " + end.UTC().Format("2006-01-02 15:04 UTC"), Do: "Make a new one (sluice trust renew) and let the server trust it. Until the server does, it refuses the gateway: do it while the line stands."}
		if d.identity.cert != nil {
			n.Do = "Make a new one for cert and key, and let the server trust it."
		}
		switch left := end.Sub(now); {
		case left <= 0:
			n.Text, n.Urgent = "the gateway's certificate has ended on "+end.UTC().Format("2006-01-02 15:04 UTC")+", so the server refuses it", true
			all = append(all, n)
		case left <= day:
			n.Text, n.Urgent = n.Text+", within a day", true
			all = append(all, n)
		case left <= 14*day:
			n.Text += ", in less than 14 days"
			all = append(all, n)
		case left <= 30*day:
			all = append(all, n)
		}
	}
	for _, doubt := range d.standing.doubts {
		all = append(all, drivers.Notice{Text: "its certificate is trusted, but " + doubt, Since: d.standing.since,
			Do: "Put the newest list (.crl) of that authority into the folder issuers of the certificates."})
	}
	if d.o.Channel.none() && !d.o.Endpoint.loopback() {
		text := "anybody on the network can read and change what is sent (channel: None)"
		if d.o.Login.User != "" {
			text = "anybody on the network can read and change what is sent, and read the password (channel: None, allow_insecure)"
		}
		all = append(all, drivers.Notice{Text: text, Do: "Switch a security policy on at the server and name it as channel."})
	}
	if d.o.Trust == TrustAny {
		all = append(all, drivers.Notice{Text: "whoever answers is taken for the server (trust: any)", Do: "Remove trust: any, and trust the server's certificate: sluice trust list shows it."})
	}
	return all
}

// secured returns how the channel to a chosen endpoint is secured, once its
// certificate has been judged.
func (d *driver) secured(e *ua.EndpointDescription) (security, error) {
	if d.o.Channel.none() {
		return unsecured(), nil
	}
	// First, so that it is there to be given to the server.
	own, err := d.own()
	if err != nil {
		return security{}, err
	}
	cert, err := d.judge(e)
	if err != nil {
		return security{}, err
	}
	public, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok {
		return security{}, errors.New("the server's certificate has no RSA key")
	}
	return security{policy: e.SecurityPolicyURI, mode: e.SecurityMode, own: own, server: cert.Raw, public: public}, nil
}
