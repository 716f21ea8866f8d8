package resolver

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/framegate/framegate/conf/strict"
)

// Mode says what a route does with the messages of its calls.
type Mode string

// ModeFrame forwards gRPC frames as they are. It is the default and the only mode so far.
const ModeFrame Mode = "frame"

// Route is the document that people write: which calls it matches and where they go. It is stored in etcd under
// <prefix>/routes/<name> or listed under "routes:" in a file. A Route that is in a table is never changed.
type Route struct {
	Name      string        `yaml:"name" json:"name"`                               // [a-z0-9][a-z0-9.-]{0,62}
	Listeners []string      `yaml:"listeners,omitempty" json:"listeners,omitempty"` // names; none means all
	Match     []Match       `yaml:"match" json:"match"`                             // any of them
	Priority  int           `yaml:"priority,omitempty" json:"priority,omitempty"`   // higher wins, before anything else; -1e6 to 1e6
	Mode      Mode          `yaml:"mode" json:"mode"`                               // empty means frame
	Authority string        `yaml:"authority,omitempty" json:"authority,omitempty"` // replaces :authority; empty keeps the client's
	Backends  []Backend     `yaml:"backends" json:"backends"`
	Timeout   time.Duration `yaml:"timeout,omitempty" json:"timeout,omitempty"` // of a whole call; 0 means the client's deadline only
}

// Match is one condition of a route.
type Match struct {
	Method string `yaml:"method" json:"method"` // see Pattern
}

// Backend is a weighted group of endpoints.
type Backend struct {
	Name      string     `yaml:"name,omitempty" json:"name,omitempty"`
	Weight    *int       `yaml:"weight,omitempty" json:"weight,omitempty"` // nil means 1; 0 takes no calls
	Endpoints []Endpoint `yaml:"endpoints" json:"endpoints"`
}

// Endpoint is one upstream address.
type Endpoint struct {
	Address string `yaml:"address" json:"address"`                   // host:port or unix:/path
	Weight  *int   `yaml:"weight,omitempty" json:"weight,omitempty"` // nil means 1; 0 takes no calls
}

// MaxWeight bounds the weight of a backend and of an endpoint.
const MaxWeight = 1_000_000

const (
	maxPriority    = 1_000_000
	maxRouteBytes  = 1 << 20
	maxEndpoints   = 10_000 // of one route
	maxTimeout     = 365 * 24 * time.Hour
	maxNameLen     = 63
	maxUnixPathLen = 107 // sun_path less its final zero, unix(7)
)

var namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,62}$`)

// ValidName reports whether s can name a route or a listener.
func ValidName(s string) bool { return namePattern.MatchString(s) }

// ParseRoute decodes one route document, YAML or JSON, and validates it. The error names every mistake.
func ParseRoute(data []byte) (*Route, error) {
	if len(data) > maxRouteBytes {
		return nil, fmt.Errorf("document of %d bytes, want at most %d", len(data), maxRouteBytes)
	}
	var r Route
	if err := strict.Decode(data, &r); err != nil {
		return nil, err
	}
	if errs := r.normalize(); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return &r, nil
}

type routeList struct {
	Routes []Route `yaml:"routes"`
}

// ParseRoutes decodes a document that is one route or has a list of them under "routes:". The error names every
// mistake of every route. An empty document is no routes.
func ParseRoutes(data []byte) ([]*Route, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}
	if !hasKey(doc.Content[0], "routes") {
		r, err := ParseRoute(data)
		if err != nil {
			return nil, err
		}
		return []*Route{r}, nil
	}
	var list routeList
	if err := strict.Decode(data, &list); err != nil {
		return nil, err
	}
	routes := make([]*Route, 0, len(list.Routes))
	names := map[string]bool{}
	var errs []error
	for i := range list.Routes {
		r := &list.Routes[i]
		for _, err := range r.normalize() {
			errs = append(errs, fmt.Errorf("routes[%d] (%s): %w", i, r.Name, err))
		}
		if names[r.Name] {
			errs = append(errs, fmt.Errorf("routes[%d].name: %q, want a name that no other route has", i, r.Name))
		}
		names[r.Name] = true
		routes = append(routes, r)
	}
	return routes, errors.Join(errs...)
}

func hasKey(n *yaml.Node, key string) bool {
	if n.Kind != yaml.MappingNode {
		return false
	}
	for i := 0; i < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return true
		}
	}
	return false
}

// Encode returns the canonical YAML document of the route: ParseRoute of it gives the same route.
func (r *Route) Encode() ([]byte, error) {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(r); err != nil {
		return nil, fmt.Errorf("encode route %s: %w", r.Name, err)
	}
	return b.Bytes(), nil
}

// normalize fills defaults and returns every mistake.
func (r *Route) normalize() (errs []error) {
	if r.Mode == "" {
		r.Mode = ModeFrame
	}
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !ValidName(r.Name) {
		fail("name: %q, want 1 to %d of a-z 0-9 . - with a letter or digit first", r.Name, maxNameLen)
	}
	for i, l := range r.Listeners {
		if !ValidName(l) {
			fail("listeners[%d]: %q, want the name of a listener", i, l)
		}
	}
	if len(r.Match) == 0 {
		fail("match: empty, want at least one entry such as {method: /pkg.Service/Method}")
	}
	for i, m := range r.Match {
		if _, err := ParsePattern(m.Method); err != nil {
			fail("match[%d].method: %w", i, err)
		}
	}
	if r.Priority < -maxPriority || r.Priority > maxPriority {
		fail("priority: %d, want %d to %d", r.Priority, -maxPriority, maxPriority)
	}
	if r.Mode != ModeFrame {
		fail("mode: %q, want %s", r.Mode, ModeFrame)
	}
	if r.Authority != "" && !validAuthority(r.Authority) {
		fail("authority: %q, want a host or host:port without spaces", r.Authority)
	}
	if r.Timeout < 0 || r.Timeout > maxTimeout {
		fail("timeout: %s, want 0s to %s", r.Timeout, maxTimeout)
	}
	return append(errs, r.backendProblems()...)
}

func (r *Route) backendProblems() (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(r.Backends) == 0 {
		fail("backends: empty, want at least one")
	}
	names, total := map[string]bool{}, 0
	for i, b := range r.Backends {
		key := fmt.Sprintf("backends[%d]", i)
		if b.Name != "" && !ValidName(b.Name) {
			fail("%s.name: %q, want 1 to %d of a-z 0-9 . - with a letter or digit first", key, b.Name, maxNameLen)
		}
		if b.Name != "" && names[b.Name] {
			fail("%s.name: %q, want a name that no other backend of the route has", key, b.Name)
		}
		names[b.Name] = true
		if w := weightOf(b.Weight); w < 0 || w > MaxWeight {
			fail("%s.weight: %d, want 0 to %d", key, w, MaxWeight)
		}
		if len(b.Endpoints) == 0 {
			fail("%s.endpoints: empty, want at least one such as {address: \"127.0.0.1:9001\"}", key)
		}
		total += len(b.Endpoints)
		for j, e := range b.Endpoints {
			if err := ValidateAddress(e.Address); err != nil {
				fail("%s.endpoints[%d].address: %w", key, j, err)
			}
			if w := weightOf(e.Weight); w < 0 || w > MaxWeight {
				fail("%s.endpoints[%d].weight: %d, want 0 to %d", key, j, w, MaxWeight)
			}
		}
	}
	if total > maxEndpoints {
		fail("backends: %d endpoints, want at most %d in a route", total, maxEndpoints)
	}
	return errs
}

func weightOf(w *int) int {
	if w == nil {
		return 1
	}
	return *w
}

func validAuthority(s string) bool {
	if len(s) > 255 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '/' || c == '@' {
			return false
		}
	}
	return true
}

// ValidateAddress reports what is wrong with an endpoint's address: host:port or unix:/path is wanted.
func ValidateAddress(addr string) error {
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		if !strings.HasPrefix(path, "/") || len(path) > maxUnixPathLen {
			return fmt.Errorf("%q, want unix:/path of at most %d bytes", addr, maxUnixPathLen)
		}
		return nil
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host == "" || strings.ContainsAny(host, " \t\r\n/") {
		return fmt.Errorf("%q, want host:port or unix:/path", addr)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q, want a port from 1 to 65535", addr)
	}
	return nil
}
