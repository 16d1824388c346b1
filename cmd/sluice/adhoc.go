package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/pki"
	"github.com/sluice-edge/sluice/plant"
)

// serverFlags say how an OPC UA server is spoken to that is in no config. Nothing
// weaker than they say is ever tried.
type serverFlags struct {
	Channel  string `help:"Of an OPC UA server that is in no config: how the connection is secured, as Basic256Sha256 (signed and encrypted), Basic256Sha256/Sign, Aes128_Sha256_RsaOaep, Aes256_Sha256_RsaPss or None. Without it None." placeholder:"POLICY[/MODE]"`
	User     string `help:"With --channel: who logs in." placeholder:"NAME" xor:"login"`
	Password string `help:"With --user: where the password is." placeholder:"env:NAME|file:PATH"`
	UserCert string `help:"With --channel: the certificate of a user, in place of a password." placeholder:"FILE" xor:"login"`
	UserKey  string `help:"The key of that certificate." placeholder:"FILE"`
	Cert     string `help:"With --channel: the certificate of this application, if it is not the gateway's own." placeholder:"FILE"`
	Key      string `help:"The key of that certificate." placeholder:"FILE"`
	Trust    string `help:"With --channel: the SHA-256 of the server's certificate, to be taken for this call alone." placeholder:"FINGERPRINT"`
}

// none reports whether no flag was given.
func (f *serverFlags) none() bool { return *f == serverFlags{} }

// refused refuses the flags for anything else than a server by its URL.
func (f *serverFlags) refused(by string) error {
	if f.none() {
		return nil
	}
	return wrong("--channel, --user, --cert, --trust and the like are for an OPC UA server by its URL: %s", by)
}

// keys are what a config would say.
func (f *serverFlags) keys(endpoint string) (map[string]any, error) {
	policy, mode, _ := strings.Cut(f.Channel, "/")
	secured := policy != "" && policy != "None"
	switch {
	case !secured && (f.User != "" || f.Password != "" || f.UserCert != "" || f.UserKey != ""):
		return nil, wrong("a login without a secured channel shows the password to whoever answers or listens: write --channel Basic256Sha256, or what else the server offers")
	case !secured && (f.Cert != "" || f.Key != "" || f.Trust != ""):
		return nil, wrong("without a secured channel no certificate is looked at: write --channel Basic256Sha256, or what else the server offers")
	case f.Password != "" && !strings.HasPrefix(f.Password, "env:") && !strings.HasPrefix(f.Password, "file:"):
		return nil, wrong("a password on the command line is seen by everybody on this computer: write --password env:NAME or --password file:PATH")
	case f.User != "" && f.Password == "":
		return nil, wrong("%s has no password: write --password env:NAME or --password file:PATH", f.User)
	}
	keys := map[string]any{"endpoint": endpoint}
	if policy == "" {
		policy = "None"
	}
	channel, login := map[string]any{"policy": policy}, map[string]any{}
	for _, k := range []struct {
		in   map[string]any
		name string
		text string
	}{
		{channel, "mode", mode}, {login, "user", f.User}, {login, "password", f.Password}, {login, "cert", f.UserCert}, {login, "key", f.UserKey},
		{keys, "cert", f.Cert}, {keys, "key", f.Key}, {keys, "server_sha256", f.Trust},
	} {
		if k.text != "" {
			k.in[k.name] = k.text
		}
	}
	keys["channel"] = channel
	if len(login) > 0 {
		keys["login"] = login
	}
	return keys, nil
}

// server is an OPC UA server that no config has, and what it is looked at with: the
// certificates of the gateway whose config is named or found, else one that is made
// for this call. done takes that away again.
func (f *serverFlags) server(ctx context.Context, c *console, server, config string, tags map[string]any) (l *looker, d *devicePlan, done func(), err error) {
	keys, err := f.keys(server)
	if err != nil {
		return nil, nil, nil, err
	}
	keys["tags"] = tags
	if d, err = adHoc("opcua", keys); err != nil {
		return nil, nil, nil, &exitError{code: exitUsage, cause: err}
	}
	d.Name = plant.DeviceID(server)
	l = newLooker(ctx, nil)
	if d.Plan.Certificates == nil {
		if f.Channel == "" && !here(server) {
			fmt.Fprintln(c.Err, "sluice: without security: anybody on the network can read and change what comes; --channel Basic256Sha256 asks for more, --channel None for no such line")
		}
		return l, d, func() {}, nil
	}
	done, err = f.certificates(c, l, config)
	return l, d, done, err
}

// here reports whether a server is on this computer.
func here(server string) bool {
	u, err := url.Parse(server)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// certificates lends l those of the gateway, as far as this user may have them.
func (f *serverFlags) certificates(c *console, l *looker, named string) (done func(), err error) {
	why := l.lend(named)
	if why == "" {
		return func() {}, nil
	}
	if named != "" {
		return nil, &exitError{code: exitFailed, cause: errors.New("the gateway's certificates are not at hand: " + why)}
	}
	folder, err := os.MkdirTemp("", "sluice-look-")
	if err != nil {
		return nil, err
	}
	if f.Cert == "" {
		fmt.Fprintf(c.Err, "sluice: %s: the server is shown a certificate that is made for this call alone, and may refuse it; another one is named by -c, or by --cert and --key\n", plain(why))
	}
	l.store = pki.New(folder)
	return func() { _ = os.RemoveAll(folder) }, nil
}

// lend takes the certificates of the gateway whose config is named or found, or
// says why it cannot.
func (l *looker) lend(named string) (why string) {
	file := configFlag{Config: named}
	path := file.path(systemConfig)
	if path == "" {
		return "no config is here"
	}
	_, p, faults := file.load()
	if len(faults.Errors()) > 0 {
		return path + " has faults, which sluice check names"
	}
	store := newTrustStores(p).gateways()
	if store == nil {
		return "no device of " + path + " has a secured channel, so its gateway has no certificate yet"
	}
	_, err := store.List(pki.Trusted)
	if err == nil {
		if _, err = store.ReadOwn(); errors.Is(err, fs.ErrNotExist) {
			err = nil // it is made now
		}
	}
	if err != nil {
		return err.Error() + " (try it as the gateway's user: sudo -u sluice …)"
	}
	l.gateway, l.store, l.trustAdd = p.Config.Site.Gateway, store, "sluice trust add "
	if named != "" {
		l.trustAdd += "-c " + named + " "
	}
	return ""
}

// say puts what a driver says of a device in a config into words for one that is in
// none: what is typed to trust its certificate.
func (l *looker) say(text string) string {
	if l.store == nil {
		return text
	}
	text = strings.NewReplacer(
		"server_sha256 in the config is", "--trust is", "write it as server_sha256", "write it behind --trust",
		"login.user and login.password", "--user and --password", "login.cert", "--user-cert",
	).Replace(text)
	const add = "sluice trust add "
	at := strings.Index(text, add)
	if at < 0 {
		return text
	}
	fingerprint, rest, _ := strings.Cut(text[at+len(add):]+" ", " ")
	once := "--trust " + fingerprint + " for this call alone"
	if l.trustAdd != "" {
		once = l.trustAdd + fingerprint + ", or " + once
	}
	return strings.TrimRight(text[:at]+once+" "+rest, " ")
}

// adHoc is a device that no config has.
func adHoc(driver string, keys map[string]any) (*devicePlan, error) {
	keys["driver"] = driver
	text, err := json.Marshal(keys) // JSON is YAML
	if err != nil {
		return nil, err
	}
	s, faults := config.ParseSection("device", "command line", string(text))
	if s == nil {
		return nil, faultsError(faults)
	}
	found, ok := driverKinds.Lookup(driver)
	if !ok {
		return nil, fmt.Errorf("this sluice has no driver %s", driver)
	}
	p, faults := found.Check(s)
	if errs := faults.Starting().Errors(); len(errs) > 0 {
		return nil, faultsError(errs)
	}
	return &devicePlan{Name: "device", Plan: p}, nil
}

// faultsError is what is wrong with words on the command line, where lines and
// columns say nothing.
func faultsError(faults config.Faults) error {
	var all []error
	for _, f := range faults {
		all = append(all, &exitError{code: exitUsage, cause: fmt.Errorf("%s — %s", f.Problem, f.Remedy)})
	}
	return errors.Join(all...)
}
