package status

import (
	"errors"
	"log"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"

	"go.uber.org/zap"
)

// headers are on every response, errors included: OWASP ASVS 5.0, 3.4.3 to 3.4.6
// and 3.4.8. The page has no script, no frame and nothing from elsewhere.
var headers = [...][2]string{
	{"Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'"},
	{"X-Content-Type-Options", "nosniff"},
	{"Referrer-Policy", "no-referrer"},
	{"Cross-Origin-Opener-Policy", "same-origin"},
	{"Cross-Origin-Resource-Policy", "same-origin"},
	{"Permissions-Policy", "camera=(), microphone=(), geolocation=()"},
	{"Cache-Control", "no-store"},
}

// guard refuses what the routes need not think of: foreign hosts, methods that
// change something, and large bodies. A panic in a route becomes a 500.
func guard(allowed func(host string) bool, log *zap.Logger, next http.Handler) http.Handler {
	// A browser says which page a request is from; one of elsewhere may ask for
	// nothing that does something.
	origin := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, h := range headers {
			w.Header().Set(h[0], h[1])
		}
		defer func() {
			cause := recover()
			if cause == nil {
				return
			}
			if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(err)
			}
			log.Error("status: request panicked", zap.String("path", r.URL.Path), zap.Any("cause", cause), zap.ByteString("stack", debug.Stack()))
			http.Error(w, "internal error; the log has the cause", http.StatusInternalServerError)
		}()
		switch {
		case !allowed(r.Host):
			http.Error(w, "this name is not served here; ask by the address that the gateway listens on", http.StatusMisdirectedRequest)
		case r.Method == http.MethodPost && r.URL.Path == testPath && origin.Check(r) != nil:
			http.Error(w, "this must be asked for by a page of this gateway", http.StatusForbidden)
		case r.Method != http.MethodGet && r.Method != http.MethodHead && !(r.Method == http.MethodPost && r.URL.Path == testPath):
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "only GET and HEAD are served", http.StatusMethodNotAllowed)
		case r.ContentLength > maxBodyBytes:
			w.Header().Set("Connection", "close")
			http.Error(w, "the request is too large", http.StatusRequestEntityTooLarge)
		default:
			r.Body = http.MaxBytesReader(w, r.Body, maxBodyBytes)
			next.ServeHTTP(w, r)
		}
	})
}

// allowedHosts returns the check of the Host header. A server that listens on
// all addresses accepts each IP address: DNS rebinding needs a name.
func (s *Server) allowedHosts() func(string) bool {
	listen, _, err := net.SplitHostPort(s.options.Listen)
	if err != nil {
		listen = s.options.Listen
	}
	all := listen == ""
	if ip, err := netip.ParseAddr(listen); err == nil && ip.IsUnspecified() {
		all = true
	}
	names := append([]string{listen}, s.options.Hosts...)
	return func(hostport string) bool {
		host := hostOnly(hostport)
		if host == "" {
			return false
		}
		if isLoopback(host) {
			return true
		}
		if _, err := netip.ParseAddr(host); err == nil && all {
			return true
		}
		for _, n := range names {
			if n != "" && strings.EqualFold(n, host) {
				return true
			}
		}
		return false
	}
}

// hostOnly strips the port and the brackets of an IPv6 address.
func hostOnly(hostport string) string {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(hostport, "["), "]")
	}
	return strings.TrimSuffix(host, ".")
}

// isLoopback reports whether host can only mean this computer (RFC 6761, 6.3).
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// quietLog takes net/http's own talk, which is about clients, at debug level.
func quietLog(l *zap.Logger) *log.Logger {
	std, err := zap.NewStdLogAt(l, zap.DebugLevel)
	if err != nil {
		// Only an unknown level can cause it; saying too much is the safe side.
		return zap.NewStdLog(l)
	}
	return std
}
