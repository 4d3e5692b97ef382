package console

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// A guard decides which requests reach the console.
type guard struct {
	login  bool
	secret [sha256.Size]byte // of "USER:PASSWORD"
	cross  *http.CrossOriginProtection
}

func newGuard(login string) (*guard, error) {
	g := &guard{login: login != "", secret: sha256.Sum256([]byte(login)), cross: http.NewCrossOriginProtection()}
	if user, password, _ := strings.Cut(login, ":"); g.login && (user == "" || password == "") {
		return nil, errors.New("console: the login is not USER:PASSWORD")
	}
	return g, nil
}

// policy lets pages load and send what is the console's own, and nothing else; no script or style stands in a page.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

func (g *guard) wrap(next http.Handler) http.Handler {
	next = g.cross.Handler(next) // refuses changes that a page of another origin asks for
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin") // with none, browsers without Sec-Fetch-Site send "Origin: null"
		h.Set("Cache-Control", "no-store")
		switch {
		case g.login && !g.admits(r):
			h.Set("WWW-Authenticate", `Basic realm="spool", charset="UTF-8"`)
			http.Error(w, "a user and a password are needed", http.StatusUnauthorized)
		case !g.login && !isLoopbackHost(r.Host):
			http.Error(w, "without a login the console answers at this machine's own name only: localhost, 127.0.0.1", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// admits compares in constant time; the sums are of one length.
func (g *guard) admits(r *http.Request) bool {
	user, password, given := r.BasicAuth()
	sum := sha256.Sum256([]byte(user + ":" + password))
	return subtle.ConstantTimeCompare(sum[:], g.secret[:]) == 1 && given
}

// isLoopback reports whether only this machine reaches an address of a listener. A name is looked up by nobody here: it
// is none, but for localhost.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && isLoopbackHost(host)
}

// isLoopbackHost is about a host as a request names it, with a port or without one.
func isLoopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
