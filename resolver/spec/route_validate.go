package spec

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/framegate/framegate/resolver/health"
	"github.com/framegate/framegate/resolver/plain"
	"github.com/framegate/framegate/resolver/strict"
)

const (
	maxPriority    = 1_000_000
	MaxEndpoints   = 10_000 // of one route
	maxBackends    = 100    // of one route
	maxMatches     = 1000   // of one route
	maxHeaders     = 32     // of one match entry
	maxListeners   = 64     // of one route
	maxTags        = 32     // of one backend or endpoint
	maxTagLen      = 512    // key and value
	maxRegexLen    = 1024
	maxRegexCost   = 256  // steps of one regular expression, see regexCost
	maxRouteCost   = 4096 // steps of all regular expressions of one route
	minTimeout     = time.Millisecond
	minIdleTimeout = 10 * time.Millisecond
	maxTimeout     = 365 * 24 * time.Hour
	maxNameLen     = 63
)

// normalize fills defaults and returns every mistake.
func (r *Route) normalize() (errs []error) {
	if r.Mode == "" {
		r.Mode = ModeFrame
	}
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if err := ValidateName(r.Name); err != nil {
		fail("name: %w", err)
	}
	if len(r.Listeners) > maxListeners {
		fail("listeners: %d, want at most %d", len(r.Listeners), maxListeners)
	}
	for i, l := range first(r.Listeners, maxListeners) {
		if !ValidName(l) {
			fail("listeners[%d]: %q, want the name of a listener", i, l)
		}
	}
	if len(r.Match) == 0 {
		fail("match: empty, want at least one entry such as {method: /pkg.Service/Method}")
	}
	if len(r.Match) > maxMatches {
		fail("match: %d entries, want at most %d", len(r.Match), maxMatches)
	}
	cost := 0
	for i := range first(r.Match, maxMatches) {
		errs = append(errs, r.Match[i].problems(fmt.Sprintf("match[%d]", i))...)
		cost += r.Match[i].regexCost()
	}
	if cost > maxRouteCost {
		fail("match: regular expressions of %d steps together, want at most %d", cost, maxRouteCost)
	}
	if r.Priority < -maxPriority || r.Priority > maxPriority {
		fail("priority: %d, want %d to %d", r.Priority, -maxPriority, maxPriority)
	}
	errs = append(errs, r.structProblems()...)
	if r.Authority != "" && !health.ValidAuthority(r.Authority) {
		fail("authority: %q, want a host or host:port without spaces", plain.URL(r.Authority))
	}
	errs = append(errs, r.policyProblems()...)
	errs = append(errs, mirrorProblems(r)...)
	if r.Fanout != nil {
		errs = append(errs, r.Fanout.problems(r)...)
	}
	return append(errs, r.backendProblems()...)
}

// policyProblems returns every mistake of the route's policies for load and failure, and fills their defaults.
func (r *Route) policyProblems() (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	errs = append(errs, durationProblems("timeout", r.Timeout, minTimeout, maxTimeout)...)
	errs = append(errs, durationProblems("idle_timeout", r.IdleTimeout, minIdleTimeout, maxTimeout)...)
	errs = append(errs, durationProblems("max_stream_age", r.MaxStreamAge, minTimeout, maxTimeout)...)
	if r.Balancer != nil {
		errs = append(errs, r.Balancer.problems()...)
	}
	if r.Limits != nil {
		errs = append(errs, r.Limits.problems("limits")...)
	}
	if r.Retry != nil {
		errs = append(errs, r.Retry.normalize()...)
	}
	if r.Hedge != nil {
		errs = append(errs, r.Hedge.problems()...)
		if r.Retry != nil {
			fail("hedge: beside retry, want one of the two")
		}
	}
	return errs
}

// durationProblems returns what is wrong with a duration whose path is key. It may be 0, or be from shortest to longest.
func durationProblems(key string, d, shortest, longest time.Duration) []error {
	if d != 0 && (d < shortest || d > longest) {
		return []error{fmt.Errorf("%s: %s, want 0s (none) or %s to %s", key, d, shortest, longest)}
	}
	return nil
}

// policyProblems returns every mistake of the policies for load and failure of the backend, whose path is key.
func (b Backend) policyProblems(key string) (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(key+"."+format, args...)) }
	if b.Pool != nil {
		for _, err := range b.Pool.Problems() {
			errs = append(errs, fmt.Errorf("%s.pool.%w", key, err))
		}
	}
	if b.Limits != nil {
		errs = append(errs, b.Limits.problems(key+".limits")...)
		if b.Limits.Per != nil {
			fail("limits.per: %s, want it in the route's limits", b.Limits.Per)
		}
	}
	if b.Health != nil {
		errs = append(errs, strict.Within(key+".health.", b.Health.Validate())...)
	}
	if b.Ejection != nil {
		errs = append(errs, strict.Within(key+".ejection.", b.Ejection.Validate())...)
	}
	if b.DNS != nil {
		errs = append(errs, strict.Within(key+".dns.", b.DNS.Validate())...)
	}
	if p := b.PanicPercent; p != nil && (*p < 0 || *p > 100) {
		fail("panic_percent: %d, want 0 (never) to 100", *p)
	}
	return errs
}

func (r *Route) backendProblems() (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(r.Backends) == 0 {
		fail("backends: empty, want at least one")
	}
	if len(r.Backends) > maxBackends {
		fail("backends: %d, want at most %d", len(r.Backends), maxBackends)
	}
	names, total := map[string]bool{}, 0
	for i, b := range first(r.Backends, maxBackends) {
		key := fmt.Sprintf("backends[%d]", i)
		if b.Name != "" {
			if err := ValidateName(b.Name); err != nil {
				fail("%s.name: %w", key, err)
			}
		}
		if b.Name != "" && names[b.Name] {
			fail("%s.name: %q, want a name that no other backend of the route has", key, b.Name)
		}
		names[b.Name] = true
		if w := WeightOf(b.Weight); w < 0 || w > MaxWeight {
			fail("%s.weight: %d, want 0 to %d", key, w, MaxWeight)
		}
		errs = append(errs, b.problems(key, MaxEndpoints-total)...)
		total += len(b.Endpoints)
	}
	if total > MaxEndpoints {
		fail("backends: %d endpoints, want at most %d in a route", total, MaxEndpoints)
	}
	return errs
}

// problems returns every mistake of where the backend's calls go, and of its policies. key is its path. Endpoints beyond the
// first limit ones are not looked at.
func (b Backend) problems(key string, limit int) (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(key+"."+format, args...)) }
	switch {
	case b.Service != "" && len(b.Endpoints) > 0:
		fail("service: %q beside endpoints, want one of the two", b.Service)
	case b.Service != "":
		if err := ValidServiceName(b.Service); err != nil {
			fail("service: %w", err)
		}
	case len(b.Endpoints) == 0:
		fail("endpoints: empty, want at least one such as {address: \"127.0.0.1:9001\"}, or service: NAME")
	}
	errs = append(errs, b.policyProblems(key)...)
	if len(b.Tags) > 0 && b.Service == "" {
		fail("tags: want them beside service only")
	}
	errs = append(errs, tagProblems(key+".tags", b.Tags)...)
	for j, e := range first(b.Endpoints, limit) {
		at := fmt.Sprintf("%s.endpoints[%d]", key, j)
		if err := ValidateAddress(e.Address); err != nil {
			errs = append(errs, fmt.Errorf("%s.address: %w", at, err))
		}
		if w := WeightOf(e.Weight); w < 0 || w > MaxWeight {
			errs = append(errs, fmt.Errorf("%s.weight: %d, want 0 to %d", at, w, MaxWeight))
		}
		errs = append(errs, tagProblems(at+".tags", e.Tags)...)
	}
	return errs
}

func tagProblems(key string, tags map[string]string) (errs []error) {
	if len(tags) > maxTags {
		errs = append(errs, fmt.Errorf("%s: %d, want at most %d", key, len(tags), maxTags))
	}
	for k, v := range tags {
		if !utf8.ValidString(k+v) || len(k)+len(v) > maxTagLen {
			errs = append(errs, fmt.Errorf("%s: %q: %q, want UTF-8 of at most %d bytes", key, k, v, maxTagLen))
		}
	}
	return errs
}

// problems returns every mistake of the entry, whose path is key.
func (m Match) problems(key string) (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if _, err := ParsePattern(m.Method); err != nil {
		fail("%s.method: %w", key, err)
	}
	if m.Authority != "" && !validAuthorityPattern(m.Authority) {
		fail("%s.authority: %q, want a host, host:port or *.domain", key, plain.URL(m.Authority))
	}
	if len(m.Headers) > maxHeaders {
		fail("%s.headers: %d, want at most %d", key, len(m.Headers), maxHeaders)
	}
	for i, h := range first(m.Headers, maxHeaders) {
		for _, err := range h.problems() {
			fail("%s.headers[%d].%w", key, i, err)
		}
	}
	return errs
}

func validAuthorityPattern(s string) bool {
	host, wild := strings.CutPrefix(s, "*.")
	return health.ValidAuthority(host) && !strings.Contains(host, "*") && !(wild && strings.HasPrefix(host, "."))
}

var headerName = regexp.MustCompile(`^[a-z0-9_.-]{1,256}$`) // gRPC over HTTP/2, "Header-Name"

// consumedHeaders are headers that HTTP/2 and gRPC themselves take away before a route is chosen.
var consumedHeaders = []string{"te", "host", "connection", "grpc-timeout", "grpc-encoding", "grpc-accept-encoding", "grpc-message-type"}

// validHeaderName returns what is wrong with the name of a request header that a route looks at; nil if it is valid.
func validHeaderName(s string) error {
	switch {
	case !headerName.MatchString(s):
		return fmt.Errorf("%q, want a header name of a-z 0-9 _ . -", s)
	case slices.Contains(consumedHeaders, s):
		return fmt.Errorf("%q, want a header that is not of the transport", s)
	}
	return nil
}

func (h HeaderMatch) problems() (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if err := validHeaderName(h.Name); err != nil {
		fail("name: %w", err)
	}
	set := 0
	for _, is := range []bool{h.Exact != nil, h.Prefix != nil, h.Regex != nil, h.Present != nil} {
		if is {
			set++
		}
	}
	if set != 1 {
		fail("name: %q with %d conditions, want one of exact, prefix, regex and present", h.Name, set)
	}
	if strings.HasSuffix(h.Name, "-bin") && h.Present == nil {
		fail("name: %q, want present: true or false for a binary header", h.Name)
	}
	for key, text := range map[string]*string{"exact": h.Exact, "prefix": h.Prefix} {
		if text != nil && strings.ContainsFunc(*text, func(r rune) bool { return r < ' ' || r > '~' }) {
			fail("%s: %q, want printable ASCII, which is all that a header can have", key, *text)
		}
	}
	if h.Prefix != nil && *h.Prefix == "" {
		fail("prefix: \"\", want some text, or present: true")
	}
	if h.Regex != nil {
		if len(*h.Regex) > maxRegexLen {
			fail("regex: %d bytes, want at most %d", len(*h.Regex), maxRegexLen)
		} else if cost, err := regexCost(*h.Regex); err != nil {
			fail("regex: %q, want a regular expression in RE2 syntax: %w", *h.Regex, err)
		} else if cost > maxRegexCost {
			fail("regex: %q, want one of at most %d steps, which has %d: fewer repetitions", *h.Regex, maxRegexCost, cost)
		}
	}
	return errs
}

// regexCost returns about how many steps a compiled regular expression has, without compiling it. The time of a match grows
// with that number times the length of the value.
func regexCost(expr string) (int, error) {
	parsed, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return 0, err
	}
	return regexSteps(parsed), nil
}

func regexSteps(re *syntax.Regexp) int {
	size := 1 + len(re.Rune)/2
	for _, sub := range re.Sub {
		size += regexSteps(sub)
	}
	if re.Op == syntax.OpRepeat {
		size *= max(re.Min, re.Max, 1)
	}
	return size
}

// regexCost returns the cost of all conditions of the entry together. An invalid regular expression counts as 0.
func (m Match) regexCost() (sum int) {
	for _, h := range m.Headers {
		if h.Regex != nil && len(*h.Regex) <= maxRegexLen {
			cost, _ := regexCost(*h.Regex)
			sum += cost
		}
	}
	return sum
}

// Compile returns the condition's regular expression, which must be valid. It matches whole values only.
func (h HeaderMatch) Compile() (*regexp.Regexp, error) {
	return regexp.Compile("^(?:" + *h.Regex + ")$")
}

// first returns the first elements of all, up to limit; none if limit is below 0. Elements beyond a limit are one mistake,
// so they are not looked at for further ones.
func first[T any](all []T, limit int) []T { return all[:min(len(all), max(limit, 0))] }

// choices lists the values of all as "a, b or c", for people.
func choices[T ~string](all []T) string {
	words := make([]string, len(all))
	for i, v := range all {
		words[i] = string(v)
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// WeightOf returns the weight of a backend or an endpoint whose document has w: 1 for nil.
func WeightOf(w *int) int {
	if w == nil {
		return 1
	}
	return *w
}

// ValidServiceName returns what is wrong with the name of a service; nil if it is valid.
func ValidServiceName(s string) error {
	if s == "" || len(s) > maxServiceNameLen || !Printable(s) || strings.Contains(s, "/") {
		return fmt.Errorf("%q, want 1 to %d printable characters without spaces and slashes", s, maxServiceNameLen)
	}
	return nil
}
