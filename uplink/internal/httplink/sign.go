package httplink

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // a setting of receivers, not our choice
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"hash"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/config"
)

// Signature is an HMAC (RFC 2104) over each request, by which a receiver knows
// that it comes from the gateway, unchanged and fresh. Content and Value are
// texts with the places {timestamp}, {method}, {path} and {body}, and Value also
// {signature}.
type Signature struct {
	Key config.Secret `yaml:"key,required"`
	// Header gets Value.
	Header string `yaml:"header,required"`
	// Hash is sha256, if it is empty, sha512 or sha1.
	Hash string `yaml:"hash"`
	// Encoding is hex, if it is empty, or base64.
	Encoding string `yaml:"encoding"`
	// Content is what is signed, {timestamp}.{body} if it is empty; the body is
	// meant as it goes out, packed or not.
	Content string `yaml:"content"`
	// Value is what the header holds, {signature} if it is empty.
	Value string `yaml:"value"`
	// TimestampHeader gets the time; empty for none.
	TimestampHeader string `yaml:"timestamp_header"`
	// Timestamp is how the time is written: unix, if it is empty, unixms or iso.
	Timestamp string `yaml:"timestamp"`
}

const (
	placeTimestamp = "{timestamp}"
	placeMethod    = "{method}"
	placePath      = "{path}"
	placeBody      = "{body}"
	placeSignature = "{signature}"
)

func (s *Signature) content() string {
	if s.Content == "" {
		return placeTimestamp + "." + placeBody
	}
	return s.Content
}

func (s *Signature) value() string {
	if s.Value == "" {
		return placeSignature
	}
	return s.Value
}

// Validate returns the faults of s as config.FieldErrors, nil if there are none.
func (s *Signature) Validate() error {
	var errs []error
	bad := func(path, problem, remedy string) { errs = append(errs, config.Field(path, problem, remedy)) }
	one := func(path, value string, values ...string) {
		for _, v := range append(values, "") {
			if v == value {
				return
			}
		}
		errs = append(errs, config.Unknown(path, "value", value, values))
	}
	one("hash", s.Hash, "sha256", "sha512", "sha1")
	one("encoding", s.Encoding, "hex", "base64")
	one("timestamp", s.Timestamp, "unix", "unixms", "iso")
	for path, name := range map[string]string{"header": s.Header, "timestamp_header": s.TimestampHeader} {
		if (path == "header" || name != "") && (!Token(name) || OwnHeader(name)) {
			bad(path, "it is no header that can hold that", "write the header's name as the receiver's manual does, for example X-Signature")
		}
	}
	if strings.EqualFold(s.Header, s.TimestampHeader) {
		bad("timestamp_header", "it is the header of the signature", "write another one")
	}
	if !strings.Contains(s.content(), placeBody) {
		bad("content", "the body is not signed, so anybody on the way could change it", "put {body} in it")
	}
	signed := strings.Contains(s.content(), placeTimestamp)
	told := s.TimestampHeader != "" || strings.Contains(s.value(), placeTimestamp)
	switch {
	case signed && !told:
		bad("timestamp_header", "the time is signed, and the receiver is not told it", "name the header for it, or put {timestamp} in value")
	case !signed:
		errs = append(errs, config.Warn("content", "the time is not signed, so that whoever has seen a request can repeat it", "put {timestamp} in it, if the receiver checks it"))
	}
	if !strings.Contains(s.value(), placeSignature) || !Printable(s.value()) {
		bad("value", "it does not say where the signature goes, or holds what no header may hold", "put {signature} in it, for example sha256={signature}")
	}
	return errors.Join(errs...)
}

// Headers returns the names of the headers that s sets.
func (s *Signature) Headers() []string {
	if s.TimestampHeader == "" {
		return []string{s.Header}
	}
	return []string{s.Header, s.TimestampHeader}
}

func (s *Signature) hash() func() hash.Hash {
	switch s.Hash {
	case "sha512":
		return sha512.New
	case "sha1":
		return sha1.New
	default:
		return sha256.New
	}
}

// set signs a request that is sent at now.
func (s *Signature) set(h http.Header, now time.Time, method string, target *url.URL, body []byte) {
	var stamp string
	switch s.Timestamp {
	case "unixms":
		stamp = strconv.FormatInt(now.UnixMilli(), 10)
	case "iso":
		stamp = now.UTC().Format("2006-01-02T15:04:05Z")
	default:
		stamp = strconv.FormatInt(now.Unix(), 10)
	}
	mac := hmac.New(s.hash(), []byte(s.Key.Reveal()))
	text := strings.NewReplacer(placeTimestamp, stamp, placeMethod, method, placePath, target.RequestURI())
	rest := s.content()
	for {
		before, after, found := strings.Cut(rest, placeBody)
		mac.Write([]byte(text.Replace(before)))
		if !found {
			break
		}
		mac.Write(body)
		rest = after
	}
	sum := mac.Sum(nil)
	signature := hex.EncodeToString(sum)
	if s.Encoding == "base64" {
		signature = base64.StdEncoding.EncodeToString(sum)
	}
	h.Set(s.Header, strings.NewReplacer(placeTimestamp, stamp, placeSignature, signature).Replace(s.value()))
	if s.TimestampHeader != "" {
		h.Set(s.TimestampHeader, stamp)
	}
}
