package httplink

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestFailedHandshakesSayWhatToDo, where the library's words do not.
func TestFailedHandshakesSayWhatToDo(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{x509.HostnameError{Certificate: &x509.Certificate{DNSNames: []string{"mes.example"}}, Host: "erp.example"}, "mes.example, not erp.example; write the name in its certificate as server_name"},
		{x509.UnknownAuthorityError{}, "unknown authority; set ca"},
		{x509.CertificateInvalidError{Reason: x509.Expired}, "expired"},
		{x509.CertificateInvalidError{Reason: x509.Expired}, "or the clock of this computer is wrong"},
		{errors.New("remote error: tls: certificate required"), "set cert and key"},
		{errors.New("remote error: tls: no application protocol"), "it takes HTTP/2 only, and the gateway speaks HTTP/1.1"},
		{errors.New("something else"), "something else"},
	} {
		if got := security(test.err, test.err.Error()); !strings.Contains(got, test.want) {
			t.Errorf("%v: %q, want %q", test.err, got, test.want)
		}
	}
	plain := newTransport(&tls.Config{}, nil, nil, 1, time.Second, newDialer(""))
	if got := plain.TLSClientConfig.NextProtos; !slices.Equal(got, []string{"http/1.1"}) {
		t.Errorf("offers %q", got)
	}
	if plain.Proxy != nil {
		t.Error("the environment's proxies are looked at")
	}
}
