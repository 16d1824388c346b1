// Package pki keeps the certificates of a protocol without an authority of its
// own (OPC UA): whom the gateway trusts, whom it has turned away, and who it is
// itself. The folders are those of OPC 10000-12: own, trusted, rejected,
// issuers. Nothing gets into trusted or issuers but by a person.
package pki

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluice-edge/sluice/internal/durable"
)

// Bounds of what lies in a store: a peer can fill rejected, and only that.
const (
	// MaxRejected is how many certificates are kept of those that were turned
	// away; the oldest goes first.
	MaxRejected = 32
	// maxBytes is the size of a certificate or a revocation list that is read.
	maxBytes = 1 << 20
	// maxCertificate is the size of a certificate that is kept for a peer.
	maxCertificate = 64 << 10
	// ShortestPrefix is how many digits of a fingerprint name a certificate: a
	// shorter beginning can be imitated.
	ShortestPrefix = 16

	folderMode, fileMode = 0o700, 0o600
)

// Place is one of the folders of a store.
type Place string

// The places.
const (
	Trusted  Place = "trusted"
	Issuers  Place = "issuers"
	Rejected Place = "rejected"
	Own      Place = "own"
	// lastSeen holds, for each device, the fingerprint that was taken last.
	lastSeen Place = "seen"
)

// Errors of Find, Add and Remove.
var (
	// ErrUnknown says that no certificate has that fingerprint.
	ErrUnknown = errors.New("no certificate has this fingerprint")
	// ErrAmbiguous says that more than one begins like that.
	ErrAmbiguous = errors.New("more than one certificate begins like this: write more digits")
)

// Store is one folder with certificates. Its methods block on the disk and may
// be called from any goroutine; people may change the files at any time.
type Store struct {
	folder string
	mu     sync.Mutex
}

// New returns the store in a folder. It does no I/O: the folders are made when
// something is first put there.
func New(folder string) *Store { return &Store{folder: folder} }

// Folder returns where the store is.
func (s *Store) Folder() string { return s.folder }

// Certificate is one that lies in a store.
type Certificate struct {
	*x509.Certificate
	Place Place
	// File is where it lies, At when it was put there.
	File string
	At   time.Time
}

// Fingerprint returns the SHA-256 of a certificate in lower-case hexadecimal
// digits, as `openssl x509 -fingerprint -sha256` has it without the colons.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// ParseFingerprint reads the first digits of a fingerprint, or all 64, with or
// without colons and blanks.
func ParseFingerprint(text string) (string, error) {
	digits := strings.ToLower(strings.NewReplacer(":", "", " ", "").Replace(text))
	if len(digits) < ShortestPrefix || len(digits) > 2*sha256.Size || strings.Trim(digits, "0123456789abcdef") != "" {
		return "", fmt.Errorf("%q is no fingerprint: write the 64 hexadecimal digits of the SHA-256, or the first %d at least", text, ShortestPrefix)
	}
	return digits, nil
}

// Parse reads a certificate in PEM or DER, the first of a chain.
func Parse(b []byte) (*x509.Certificate, error) {
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			b = block.Bytes
			break
		}
	}
	all, err := x509.ParseCertificates(b)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, errors.New("no certificate")
	}
	return all[0], nil
}

// List returns the certificates of a place, the oldest first. A file that is no
// certificate is left out; a folder that is not there is empty.
func (s *Store) List(place Place) ([]Certificate, error) {
	files, err := s.files(place)
	if err != nil {
		return nil, err
	}
	var all []Certificate
	for _, f := range files {
		if f.isList() || place == Own && f.name != ownCertificate {
			continue
		}
		b, err := f.read()
		if errors.Is(err, fs.ErrNotExist) {
			continue // taken away since
		}
		if err != nil {
			return nil, err
		}
		if c, err := Parse(b); err == nil {
			all = append(all, Certificate{Certificate: c, Place: place, File: f.path, At: f.at})
		}
	}
	slices.SortStableFunc(all, func(a, b Certificate) int { return a.At.Compare(b.At) })
	return all, nil
}

// file is one in a folder of the store.
type file struct {
	name, path string
	at         time.Time
	size       int64
}

// isList reports whether the file is a list of revoked certificates by its name.
func (f file) isList() bool { return strings.EqualFold(filepath.Ext(f.name), ".crl") }

func (f file) read() ([]byte, error) {
	if f.size > maxBytes {
		return nil, fmt.Errorf("pki: %s has %d bytes, which is no certificate: take it away", f.path, f.size)
	}
	return os.ReadFile(f.path)
}

// files returns the plain files of a place.
func (s *Store) files(place Place) ([]file, error) {
	folder := filepath.Join(s.folder, string(place))
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("pki: %w: give the gateway's user the right to read there", err)
	}
	var all []file
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || strings.HasSuffix(e.Name(), ".new") {
			continue // taken away since, or half written
		}
		all = append(all, file{e.Name(), filepath.Join(folder, e.Name()), info.ModTime(), info.Size()})
	}
	return all, nil
}

// Find returns the certificate of a place whose fingerprint begins like that.
func (s *Store) Find(place Place, prefix string) (Certificate, error) {
	prefix, err := ParseFingerprint(prefix)
	if err != nil {
		return Certificate{}, err
	}
	all, err := s.List(place)
	if err != nil {
		return Certificate{}, err
	}
	var found []Certificate
	for _, c := range all {
		digits := Fingerprint(c.Certificate)
		if strings.HasPrefix(digits, prefix) && !slices.ContainsFunc(found, func(f Certificate) bool { return Fingerprint(f.Certificate) == digits }) {
			found = append(found, c)
		}
	}
	switch len(found) {
	case 0:
		return Certificate{}, ErrUnknown
	case 1:
		return found[0], nil
	default:
		return Certificate{}, ErrAmbiguous
	}
}

// Add puts a certificate into trusted or issuers and takes it out of rejected.
func (s *Store) Add(place Place, c *x509.Certificate) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.put(place, c); err != nil {
		return err
	}
	_, err := s.remove(Rejected, Fingerprint(c))
	return err
}

// Remove takes the certificate of a whole fingerprint out of a place.
func (s *Store) Remove(place Place, fingerprint string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.remove(place, fingerprint)
	if err == nil && n == 0 {
		return ErrUnknown
	}
	return err
}

// put writes a certificate under its fingerprint.
func (s *Store) put(place Place, c *x509.Certificate) error {
	return s.write(place, Fingerprint(c)+".der", c.Raw)
}

func (s *Store) write(place Place, name string, data []byte) error {
	folder := filepath.Join(s.folder, string(place))
	if err := s.makeFolders(folder); err != nil {
		return fmt.Errorf("pki: %w: give the gateway's user the right to write there", err)
	}
	path := filepath.Join(folder, name)
	if err := durable.Replace(path, data, fileMode); err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	if err := adopt(path, folder); err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	return nil
}

// makeFolders makes the folder of the store and one of its places. What root makes
// there belongs to whoever has the folder around it: a command that root types
// must not shut the gateway out.
func (s *Store) makeFolders(place string) error {
	if err := os.MkdirAll(filepath.Dir(s.folder), folderMode); err != nil {
		return err
	}
	for _, folder := range []string{s.folder, place} {
		err := os.Mkdir(folder, folderMode)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err == nil {
			err = adopt(folder, filepath.Dir(folder))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// remove takes away every file of a place that holds that certificate, whatever
// its name is.
func (s *Store) remove(place Place, fingerprint string) (n int, err error) {
	all, err := s.List(place)
	if err != nil {
		return 0, err
	}
	for _, c := range all {
		if Fingerprint(c.Certificate) != fingerprint {
			continue
		}
		if err := os.Remove(c.File); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return n, fmt.Errorf("pki: %w", err)
		}
		n++
	}
	if n > 0 {
		err = durable.SyncFolder(filepath.Join(s.folder, string(place)))
	}
	return n, err
}

// Reject keeps a certificate that was turned away, so that a person can look at
// it and trust it by its fingerprint. At MaxRejected the oldest goes.
func (s *Store) Reject(c *x509.Certificate) error {
	if len(c.Raw) > maxCertificate {
		return fmt.Errorf("pki: a certificate of %d bytes is not kept", len(c.Raw))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all, err := s.files(Rejected)
	if err != nil {
		return err
	}
	name := Fingerprint(c) + ".der"
	if slices.ContainsFunc(all, func(f file) bool { return f.name == name }) {
		return nil
	}
	slices.SortFunc(all, func(a, b file) int { return a.at.Compare(b.at) })
	for ; len(all) >= MaxRejected; all = all[1:] {
		if err := os.Remove(all[0].path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("pki: %w", err)
		}
	}
	return s.put(Rejected, c)
}
