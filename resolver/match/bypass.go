package match

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/framegate/framegate/resolver/spec"
)

// Bypass is a match entry by which calls may get past the rules of another route, the guard. Both routes send calls to the
// same endpoints, and the entry matches method names that a server may take for methods of the guard: Kitex looks a service
// up by the last part of its name, so that it takes /x.Echo/Say for /echo.Echo/Say.
type Bypass struct {
	Route  string `json:"route" yaml:"route"`   // the route of the entry, which does not apply the rules
	Method string `json:"method" yaml:"method"` // the pattern of the entry
	Guard  string `json:"guard" yaml:"guard"`   // the route with rules
	Guards string `json:"guards" yaml:"guards"` // the pattern of the methods that the guard's rules apply to
	Target string `json:"target" yaml:"target"` // what both routes reach: an address or "service NAME"
}

// String returns the bypass as a warning.
func (b Bypass) String() string {
	return fmt.Sprintf("route %s reaches %s by %s, past the rules of route %s for %s: a server that ignores packages, as Kitex does, takes other names for those methods",
		b.Route, b.Target, b.Method, b.Guard, b.Guards)
}

// maxBypasses bounds a list of bypasses, which is for people.
const maxBypasses = 100

// Bypasses returns the bypasses that would come with the routes put: those with one of these routes as the entry's or as the
// guard, beside the other routes in now.
func Bypasses(now, put []*spec.Route) []Bypass {
	replaced := map[string]bool{}
	for _, r := range put {
		replaced[r.Name] = true
	}
	guards, guardsPut := guardIndex{}, guardIndex{}
	for _, r := range put {
		guards.add(r)
		guardsPut.add(r)
	}
	var others []*spec.Route
	for _, r := range now {
		if !replaced[r.Name] {
			others = append(others, r)
			guards.add(r)
		}
	}
	found := []Bypass{}
	for _, r := range put {
		found = guards.passed(r, found)
	}
	for _, r := range others {
		found = guardsPut.passed(r, found)
	}
	slices.SortFunc(found, func(a, b Bypass) int { return cmp.Or(cmp.Compare(a.Route, b.Route), cmp.Compare(a.Guard, b.Guard)) })
	return found
}

// guardIndex has the backends of routes with rules by the keys of their destinations.
type guardIndex map[string][]guard

// guard is a backend of a route with rules.
type guard struct {
	route   *spec.Route
	backend *spec.Backend
}

// add adds a route if it has rules.
func (g guardIndex) add(r *spec.Route) {
	if r.Mode != spec.ModeStruct || r.Struct == nil || len(r.Struct.Rules) == 0 {
		return
	}
	for i := range r.Backends {
		b := &r.Backends[i]
		for target := range DestinationsOf(b) {
			g[target.key] = append(g[target.key], guard{r, b})
		}
	}
}

// passed appends to found the bypasses by entries of r, one for each guard.
func (g guardIndex) passed(r *spec.Route, found []Bypass) []Bypass {
	if len(g) == 0 || !takesUnknown(r) {
		return found
	}
	seen := map[*spec.Route]bool{r: true}
	for i := range r.Backends {
		b := &r.Backends[i]
		for target := range DestinationsOf(b) {
			for _, guard := range g[target.key] {
				if len(found) >= maxBypasses {
					return found
				}
				if seen[guard.route] || guard.route.Name == r.Name || !overlap(b, guard.backend) || !sharesListener(r, guard.route) {
					continue
				}
				if by, past, ok := passes(r, guard.route); ok {
					seen[guard.route] = true
					found = append(found, Bypass{Route: r.Name, Method: by, Guard: guard.route.Name, Guards: past, Target: target.text})
				}
			}
		}
	}
	return found
}

// passes returns the first pattern of r by which calls may get past a pattern of guard, and that pattern.
func passes(r, guard *spec.Route) (by, past string, ok bool) {
	for _, m := range r.Match {
		p, err := spec.ParsePattern(m.Method)
		if err != nil {
			continue
		}
		for _, gm := range guard.Match {
			if g, err := spec.ParsePattern(gm.Method); err == nil && mayPass(p, g) {
				return m.Method, gm.Method, true
			}
		}
	}
	return "", "", false
}

// mayPass reports whether p matches a method that g does not match, and that a server may take for a method of g because it
// looks only at the last part of a service's name. A broad p may always match one. If p names a service and g does not, p is
// taken for an exception that was made on purpose. If both name a service, the last parts of the two names decide.
func mayPass(p, g spec.Pattern) bool {
	if slices.Contains(p.Enclosing(), g) {
		return false // g matches every method of p
	}
	ours, method := lastParts(p)
	guarded, guardedMethod := lastParts(g)
	switch {
	case ours == "": // * or a package
		return true
	case guarded == "":
		return false
	case serviceOfPattern(p) == serviceOfPattern(g):
		return false
	}
	return ours == guarded && (method == "" || guardedMethod == "" || method == guardedMethod)
}

// serviceOfPattern returns the service whose methods a pattern matches, or "" if it matches methods of several.
func serviceOfPattern(p spec.Pattern) string {
	if p.Kind < spec.KindService {
		return ""
	}
	return p.Prefix[1:strings.LastIndexByte(p.Prefix, '/')]
}

// lastParts returns the last part of the name of the pattern's service, and its method. Each is "" if the pattern matches
// several.
func lastParts(p spec.Pattern) (service, method string) {
	service = serviceOfPattern(p)
	service = service[strings.LastIndexByte(service, '.')+1:]
	if p.Kind == spec.KindExact {
		method = p.Prefix[strings.LastIndexByte(p.Prefix, '/')+1:]
	}
	return service, method
}

// takesUnknown reports whether the route forwards calls of methods that its schema does not have. In struct mode with a
// schema it does so only if messages that cannot be decoded are passed on.
func takesUnknown(r *spec.Route) bool {
	return r.Mode != spec.ModeStruct || r.Schema == nil || r.Struct != nil && r.Struct.OnDecodeError == spec.DecodeErrorPass
}

// overlap reports whether two backends that name the same service or address may have an endpoint in common.
func overlap(b, o *spec.Backend) bool {
	for k, v := range b.Tags {
		if other, ok := o.Tags[k]; ok && other != v {
			return false
		}
	}
	return true
}

// sharesListener reports whether there is a listener whose calls both routes may take.
func sharesListener(a, b *spec.Route) bool {
	return len(a.Listeners) == 0 || len(b.Listeners) == 0 || slices.ContainsFunc(a.Listeners, func(l string) bool { return b.Listens(l) })
}
