package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
)

// guard decides which requests are answered. Probes need neither a token nor a certain Host.
type guard struct {
	token  atomic.Pointer[[sha256.Size]byte] // hash of the token, nil if none is wanted: comparing takes the same time for any length
	origin *http.CrossOriginProtection
}

func newGuard(token string) *guard {
	g := &guard{origin: http.NewCrossOriginProtection()}
	g.setToken(token)
	return g
}

func (g *guard) setToken(token string) {
	if token == "" {
		g.token.Store(nil)
		return
	}
	sum := sha256.Sum256([]byte(token))
	g.token.Store(&sum)
}

// isProbe reports whether a path is one of the probes, which tell only whether this process lives and is ready.
func isProbe(path string) bool { return path == "/healthz" || path == "/readyz" }

// check returns why a request is refused, or nil.
func (g *guard) check(r *http.Request) error {
	switch want := g.token.Load(); {
	case isProbe(r.URL.Path):
		return nil
	case want != nil:
		return checkToken(r, want)
	}
	return g.checkBrowser(r)
}

// trusts reports whether an answer to the request may have details of this process, such as hosts and ports, that are kept
// from a probe without the token.
func (g *guard) trusts(r *http.Request) bool {
	want := g.token.Load()
	return want == nil || checkToken(r, want) == nil
}

// checkToken returns an error unless the request has the bearer token whose hash is want.
func checkToken(r *http.Request, want *[sha256.Size]byte) error {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
	if subtle.ConstantTimeCompare(sum[:], want[:]) == 1 && strings.EqualFold(scheme, "Bearer") {
		return nil
	}
	return &problem{status: http.StatusUnauthorized, Reason: reasonUnauthorized, Message: "authorization: want Bearer and the value of admin.token"}
}

// checkBrowser refuses requests that a page of another site makes a browser on this machine send. It is for a server without
// a token, which trusts everybody who can connect, and the browser can. A page whose domain was made to resolve to this
// address (DNS rebinding) is recognized by the domain in the Host header.
func (g *guard) checkBrowser(r *http.Request) error {
	if !isLocalHost(r.Host) {
		return &problem{status: http.StatusForbidden, Reason: reasonHostNotAllowed, Message: fmt.Sprintf("host: %q, want an IP address or localhost, or admin.token set", r.Host)}
	}
	site := r.Header.Get("Sec-Fetch-Site")
	if site == "cross-site" || g.origin.Check(r) != nil {
		return &problem{status: http.StatusForbidden, Reason: reasonCrossSite, Message: fmt.Sprintf("sec-fetch-site: %q, origin: %q, want a request that no other site makes", site, r.Header.Get("Origin"))}
	}
	return nil
}

// isLocalHost reports whether a Host header is localhost, an IP address or empty. Browsers always send one, so that an empty
// one comes from another client.
func isLocalHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	if host == "" || strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	return err == nil && !ip.IsUnspecified() // some browsers connect to 0.0.0.0 without saying for which site
}
