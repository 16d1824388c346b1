//go:build linux

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// secured is the name of the uplink to the receiver behind TLS.
const secured = "secured"

// vault is a receiver behind TLS whose certificate can be changed while it runs.
type vault struct {
	addr, ca string
	server   *http.Server
	pair     atomic.Pointer[tls.Certificate]
	// refused ends every handshake with an alert.
	refused atomic.Bool
	// hands counts the handshakes that were begun.
	hands atomic.Int64
	root  *x509.Certificate
	key   *ecdsa.PrivateKey
	ended chan struct{}
}

// newVault serves take over HTTPS, with its authority's file in dir.
func newVault(dir string, take http.Handler) (*vault, error) {
	v := &vault{ca: filepath.Join(dir, "ca.pem"), ended: make(chan struct{})}
	var err error
	if v.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	v.root = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "rig CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, v.root, v.root, &v.key.PublicKey, v.key)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(v.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		return nil, err
	}
	if err := v.issue(time.Now().Add(24 * time.Hour)); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	v.addr = l.Addr().String()
	v.server = &http.Server{Handler: take, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	settings := &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		v.hands.Add(1)
		if v.refused.Load() {
			return nil, errors.New("the rig refuses this handshake")
		}
		return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*v.pair.Load()}}, nil
	}}
	go func() {
		defer close(v.ended)
		_ = v.server.Serve(tls.NewListener(l, settings)) // it ends by Close only
	}()
	return v, nil
}

// issue makes the certificate that new connections are shown.
func (v *vault) issue(ends time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "rig"},
		NotBefore: ends.Add(-24 * time.Hour), NotAfter: ends, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, v.root, &key.PublicKey, v.key)
	if err != nil {
		return err
	}
	v.pair.Store(&tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key})
	return nil
}

// shake lets connections end with their next answer, so that the next request
// makes a handshake; it is undone by the returned function.
func (v *vault) shake() (calm func()) {
	v.server.SetKeepAlivesEnabled(false)
	return func() { v.server.SetKeepAlivesEnabled(true) }
}

func (v *vault) close() {
	_ = v.server.Close()
	<-v.ended
}
