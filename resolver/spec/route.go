package spec

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/resolver/dns"
	"github.com/framegate/framegate/resolver/eject"
	"github.com/framegate/framegate/resolver/health"
	"github.com/framegate/framegate/resolver/strict"
)

// Mode says what a route does with the messages of its calls.
type Mode string

// The modes.
const (
	ModeFrame  Mode = "frame"  // forwards gRPC frames as they are; the default
	ModeStruct Mode = "struct" // decodes each message, applies the rules of Struct and encodes what they changed
)

// Route is the document of a route: which calls it matches and where they go. It is stored in etcd under
// <prefix>/routes/<name>, or listed under "routes:" in a file. A Route that is in a match.Table is never changed.
type Route struct {
	Name      string     `yaml:"name"`                // [a-z0-9][a-z0-9.-]{0,62}
	Listeners []string   `yaml:"listeners,omitempty"` // names; none means all
	Match     []Match    `yaml:"match"`               // a call must match any of them
	Priority  int        `yaml:"priority,omitempty"`  // higher wins, before anything else; -1e6 to 1e6
	Mode      Mode       `yaml:"mode"`                // empty means frame
	Authority string     `yaml:"authority,omitempty"` // replaces :authority; empty keeps the client's
	Schema    *SchemaRef `yaml:"schema,omitempty"`    // of the messages
	Struct    *Struct    `yaml:"struct,omitempty"`    // of mode struct
	Backends  []Backend  `yaml:"backends"`

	// One to many.
	Mirrors []Mirror `yaml:"mirrors,omitempty"`
	Select  *Select  `yaml:"select,omitempty"`  // which messages of the request Backends get; nil means all
	Respond Respond  `yaml:"respond,omitempty"` // empty means that at most one mirror may answer a message
	Fanout  *Fanout  `yaml:"fanout,omitempty"`

	// The policies for load and failure. The times are of one call; 0 means none beyond the client's deadline.
	Balancer     *Balancer     `yaml:"balancer,omitempty"`
	Timeout      time.Duration `yaml:"timeout,omitempty"`        // of the whole call
	IdleTimeout  time.Duration `yaml:"idle_timeout,omitempty"`   // without a frame in either direction
	MaxStreamAge time.Duration `yaml:"max_stream_age,omitempty"` // of the whole call, give or take a tenth at random, so that streams do not end all at once
	Retry        *Retry        `yaml:"retry,omitempty"`
	Hedge        *Hedge        `yaml:"hedge,omitempty"` // instead of Retry
	Limits       *Limits       `yaml:"limits,omitempty"`
}

// Match is one entry of a route: a call must meet all of its conditions.
type Match struct {
	Method    string        `yaml:"method"`              // see Pattern
	Authority string        `yaml:"authority,omitempty"` // host, host:port or *.domain; without a port any; letter case does not matter
	Headers   []HeaderMatch `yaml:"headers,omitempty"`
}

// HeaderMatch is a condition on one request header. Exactly one of Exact, Prefix, Regex and Present is set. If a header was
// sent more than once, it is enough that one of its values meets the condition.
type HeaderMatch struct {
	Name    string  `yaml:"name"` // in lower case
	Exact   *string `yaml:"exact,omitempty"`
	Prefix  *string `yaml:"prefix,omitempty"`
	Regex   *string `yaml:"regex,omitempty"` // RE2 (package regexp/syntax), of a whole value of up to 1024 bytes
	Present *bool   `yaml:"present,omitempty"`
}

// Backend is a weighted group of endpoints: fixed ones, or the registered instances of a service.
type Backend struct {
	Name      string            `yaml:"name,omitempty"`
	Weight    *int              `yaml:"weight,omitempty"`  // nil means 1; 0 takes no calls
	Service   string            `yaml:"service,omitempty"` // instead of Endpoints
	Tags      map[string]string `yaml:"tags,omitempty"`    // that an instance of Service must have; it may have others too
	Endpoints []Endpoint        `yaml:"endpoints,omitempty"`
	DNS       *dns.Config       `yaml:"dns,omitempty"` // how host names among the addresses are looked up; nil means its defaults

	Pool         *policy.Policy `yaml:"pool,omitempty"`
	Health       *health.Config `yaml:"health,omitempty"`        // nil means that endpoints are not checked
	Ejection     *eject.Config  `yaml:"ejection,omitempty"`      // nil means its defaults
	PanicPercent *int           `yaml:"panic_percent,omitempty"` // calls go to all endpoints if fewer percent of those with a weight are usable; nil means 50, 0 never
	Limits       *Limits        `yaml:"limits,omitempty"`        // of the route's calls to this backend
}

// Endpoint is one upstream address.
type Endpoint struct {
	Address string            `yaml:"address"`          // host:port, dns:///host:port or unix:/path; each address of a host is an endpoint
	Weight  *int              `yaml:"weight,omitempty"` // nil means 1; 0 takes no calls
	Tags    map[string]string `yaml:"tags,omitempty"`   // such as TagNode
}

// MaxWeight bounds the weight of a backend and of an endpoint.
const MaxWeight = 1_000_000

const maxRouteBytes = 1 << 20

var namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,62}$`)

// ValidName reports whether s can name a route or a listener.
func ValidName(s string) bool { return namePattern.MatchString(s) }

// ValidateName returns what is wrong with the name of a route, a listener, a backend or a schema; nil if it is valid.
func ValidateName(s string) error {
	if !ValidName(s) {
		return fmt.Errorf("%q, want 1 to %d of a-z 0-9 . - with a letter or digit first", s, maxNameLen)
	}
	return nil
}

// ParseRoute decodes one route document, YAML or JSON, and validates it. The error names every mistake,
// up to strict.MaxErrors.
func ParseRoute(data []byte) (*Route, error) {
	if len(data) > maxRouteBytes {
		return nil, fmt.Errorf("document of %d bytes, want at most %d", len(data), maxRouteBytes)
	}
	if !utf8.Valid(data) {
		return nil, errors.New("document is not UTF-8, want UTF-8")
	}
	var r Route
	if err := strict.Decode(data, &r); err != nil {
		return nil, err
	}
	if errs := r.normalize(); len(errs) > 0 {
		return nil, strict.Join(errs)
	}
	return &r, nil
}

// routeList is a document with a list of routes.
type routeList struct {
	Routes []Route `yaml:"routes"`
}

// ParseRoutes decodes a document that is one route, or that has a list of routes under "routes:". The error names every
// mistake of every route. For an empty document it returns nil.
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
	return routes, strict.Join(errs)
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

// Encode returns the canonical YAML document of the route, of which ParseRoute makes the same route.
func (r *Route) Encode() ([]byte, error) {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(r); err != nil {
		return nil, fmt.Errorf("encode route %s: %w", r.Name, err)
	}
	return b.Bytes(), nil
}

// MarshalJSON returns the document as JSON, with the keys and the durations that people write.
func (r *Route) MarshalJSON() ([]byte, error) {
	type plain Route // without this method
	doc, err := strict.JSON((*plain)(r))
	if err != nil {
		return nil, fmt.Errorf("encode route %s: %w", r.Name, err)
	}
	return doc, nil
}

// ListedAddresses returns the addresses of the endpoints that the routes list.
func ListedAddresses(routes ...*Route) (all []string) {
	for _, r := range routes {
		for _, b := range r.Backends {
			for _, e := range b.Endpoints {
				all = append(all, e.Address)
			}
		}
	}
	return all
}

// Listens reports whether the route takes calls of a listener.
func (r *Route) Listens(listener string) bool {
	return len(r.Listeners) == 0 || slices.Contains(r.Listeners, listener)
}

// Key returns a text that tells the backend, the i-th of its route, from the others: its name, or #i.
func (b *Backend) Key(i int) string {
	if b.Name != "" {
		return b.Name
	}
	return fmt.Sprintf("#%d", i)
}

// SchemaName returns the name of the schema in etcd that the route names; "" if it names none.
func (r *Route) SchemaName() string {
	if r.Schema == nil {
		return ""
	}
	return r.Schema.Name
}

// ParseDocument is ParseRoutes for a document with a name, such as a file. Errors begin with the name. An empty document is
// an error; a document that wants no routes says routes: [].
func ParseDocument(name string, doc []byte) ([]*Route, error) {
	routes, err := ParseRoutes(doc)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if routes == nil {
		return nil, fmt.Errorf("%s: empty, want a route or routes: [...]", name)
	}
	return routes, nil
}

// KeyedBackend is where some calls of a route go: one of its backends, or the backend of one of its mirrors.
type KeyedBackend struct {
	Key string // of Backend.Key, or of MirrorKey
	*Backend
	*Balancer // nil for the default
}

// MirrorKey returns the key of the backend of a mirror of that name. No backend of the route has it.
func MirrorKey(name string) string { return "mirrors/" + name }

// EveryBackend returns the backends of the route, in their order, and then those of its mirrors.
func (r *Route) EveryBackend() []KeyedBackend {
	all := make([]KeyedBackend, 0, len(r.Backends)+len(r.Mirrors))
	for i := range r.Backends {
		all = append(all, KeyedBackend{r.Backends[i].Key(i), &r.Backends[i], r.Balancer})
	}
	for i := range r.Mirrors {
		if m := &r.Mirrors[i]; m.Backend != nil {
			all = append(all, KeyedBackend{MirrorKey(m.Name), &m.Backend.Backend, m.Backend.Balancer})
		}
	}
	return all
}

// KeyedCondition is a condition in CEL on the messages of a route's requests.
type KeyedCondition struct{ Key, When string }

// Conditions returns every MessageType.When of the route, by the key of what it is in, such as mirrors[0].select.types[1].
func (r *Route) Conditions() (all []KeyedCondition) {
	add := func(s *Select, key string) {
		if s == nil {
			return
		}
		for i, t := range s.Types {
			if t.When != "" {
				all = append(all, KeyedCondition{s.TypeKey(key, i), t.When})
			}
		}
	}
	add(r.Select, SelectKey)
	for i := range r.Mirrors {
		add(r.Mirrors[i].Select, MirrorSelectKey(i))
	}
	return all
}
