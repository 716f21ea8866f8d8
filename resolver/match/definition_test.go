package match

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/race"
	"github.com/framegate/framegate/test/routetest"
)

// slowResolve is the definition of which match entry a call gets, written down from the documentation without any of
// the code under test. It returns "route/index of the entry", or "".
func slowResolve(routes []*spec.Route, req spec.Request) string {
	type hit struct {
		name       string
		index      int
		priority   int
		kind, long int
		conditions int
	}
	var best *hit
	for _, r := range routes {
		if len(r.Listeners) > 0 && !strings.Contains(" "+strings.Join(r.Listeners, " ")+" ", " "+req.Listener+" ") {
			continue
		}
		for i, m := range r.Match {
			h := hit{name: r.Name, index: i, priority: r.Priority, conditions: len(m.Headers)}
			switch {
			case m.Method == req.Method:
				h.kind = 3
			case strings.HasSuffix(m.Method, "/*") && strings.HasPrefix(req.Method, m.Method[:len(m.Method)-1]):
				h.kind = 2
			case strings.HasSuffix(m.Method, ".*") && strings.HasPrefix(req.Method, m.Method[:len(m.Method)-1]):
				h.kind, h.long = 1, len(m.Method)
			case m.Method == "*":
			default:
				continue
			}
			if m.Authority != "" {
				h.conditions++
				if !slowAuthority(strings.ToLower(m.Authority), strings.ToLower(req.Authority)) {
					continue
				}
			}
			fits := true
			for _, c := range m.Headers {
				fits = fits && slowHeader(c, req.Values(c.Name))
			}
			if !fits {
				continue
			}
			if best == nil || h.priority > best.priority ||
				h.priority == best.priority && (h.kind > best.kind || h.kind == best.kind && (h.long > best.long ||
					h.long == best.long && (h.conditions > best.conditions || h.conditions == best.conditions &&
						(h.name < best.name || h.name == best.name && h.index < best.index)))) {
				best = &h
			}
		}
	}
	if best == nil {
		return ""
	}
	return fmt.Sprintf("%s/%d", best.name, best.index)
}

func slowAuthority(want, got string) bool {
	if !regexp.MustCompile(`:[0-9]+$`).MatchString(want) {
		got = regexp.MustCompile(`:[0-9]*$`).ReplaceAllString(got, "")
	}
	if domain, ok := strings.CutPrefix(want, "*"); ok {
		return strings.HasSuffix(got, domain) && len(got) > len(domain)
	}
	return want == got
}

func slowHeader(c spec.HeaderMatch, values []string) bool {
	if c.Present != nil {
		return *c.Present == (len(values) > 0)
	}
	for _, v := range values {
		switch {
		case c.Exact != nil && v == *c.Exact:
			return true
		case c.Prefix != nil && strings.HasPrefix(v, *c.Prefix):
			return true
		case c.Regex != nil:
			if found := regexp.MustCompile(*c.Regex); found.FindString(v) == v && found.MatchString(v) {
				return true
			}
		}
	}
	return false
}

// world makes random routes and calls that often meet.
type world struct{ *rand.Rand }

func oneOf[T any](w world, of ...T) T { return of[w.IntN(len(of))] }

func (w world) service() string {
	s := oneOf(w, "a", "b", "ab")
	for range w.IntN(3) {
		s += "." + oneOf(w, "a", "b", "ab")
	}
	return s
}

func (w world) pattern() string {
	switch w.IntN(8) {
	case 0:
		return "*"
	case 1, 2:
		return "/" + w.service() + ".*"
	case 3, 4:
		return "/" + w.service() + "/*"
	}
	return "/" + w.service() + "/" + oneOf(w, "a", "b")
}

func (w world) header() spec.HeaderMatch {
	text, yes := oneOf(w, "", "v", "vw", "w", "x"), w.IntN(2) == 0
	h := spec.HeaderMatch{Name: oneOf(w, "x-a", "x-b")}
	switch w.IntN(6) {
	case 0:
		h.Present = &yes
	case 1:
		text = oneOf(w, "v", "w")
		h.Prefix = &text
	case 2:
		text = oneOf(w, "[vw]+", "v", "w*", ".")
		h.Regex = &text
	default:
		h.Exact = &text
	}
	return h
}

func (w world) match() spec.Match {
	m := spec.Match{Method: w.pattern()}
	if w.IntN(3) == 0 {
		m.Authority = oneOf(w, "a.com", "A.com", "b.a.com", "*.a.com", "*.com", "*.A.com:80", "a.com:80", "[::1]:80", "[::1]")
	}
	for range w.IntN(3) {
		if w.IntN(2) == 0 {
			m.Headers = append(m.Headers, w.header())
		}
	}
	return m
}

// routes makes up to n routes. Now and then all are of one pattern, so that one bucket has them all.
func (w world) routes(n int) []*spec.Route {
	var routes []*spec.Route
	one, crowded := w.pattern(), w.IntN(4) == 0
	for i := range w.IntN(n + 1) {
		r := routetest.Route(fmt.Sprintf("r%02d", i), "*", w.IntN(3)*w.IntN(2))
		r.Match = []spec.Match{w.match()}
		for range w.IntN(3) {
			r.Match = append(r.Match, w.match())
		}
		if crowded {
			for i := range r.Match {
				r.Match[i].Method = one
			}
		}
		if w.IntN(4) == 0 {
			r.Listeners = []string{oneOf(w, "main", "edge")}
		}
		routes = append(routes, r)
	}
	w.Shuffle(len(routes), func(i, j int) { routes[i], routes[j] = routes[j], routes[i] })
	return routes
}

func (w world) request() spec.Request {
	req := spec.Request{
		Listener:  oneOf(w, "main", "edge", "other"),
		Method:    "/" + w.service() + "/" + oneOf(w, "a", "b"),
		Authority: oneOf(w, "", "a.com", "A.COM", "a.com:80", "b.a.com", "c.b.A.com:80", "b.a.com:81", ".a.com", "com", "[::1]:80", "[::1]", strings.Repeat("x", 255)+".a.com:80"),
	}
	if w.IntN(50) == 0 {
		req.Method = oneOf(w, "", "odd", "/", "/a", "//", "/a.b", "/*", "/a/*")
	}
	for range w.IntN(3) {
		if req.Header == nil {
			req.Header = spec.Header{}
		}
		header, name := req.Header.(spec.Header), oneOf(w, "x-a", "x-b", "x-c")
		header[name] = append(header[name], oneOf(w, "", "v", "vw", "w", "x", "vx"))
	}
	return req
}

func TestTable_AgreesWithItsDefinition(t *testing.T) {
	w := world{rand.New(rand.NewPCG(1, 2))}
	matched := 0
	sets := race.Choose(30_000, 3_000)
	for range sets {
		routes := w.routes(6 + 30*(w.IntN(8)/7))
		r := newTables()
		half := len(routes) / 2
		r.Apply("a", routes[:half])
		r.Apply("b", w.routes(6))
		r.Apply("b", routes[half:]) // takes over what is of the first half
		for range w.IntN(4) {
			w.update(r, routes[:half])
		}
		for range 3 {
			req := w.request()
			got := ""
			if c := r.current.lookup(&req); c != nil {
				got = fmt.Sprintf("%s/%d", c.route.Name, c.index)
				matched++
			}
			want := slowResolve(routes, req)
			if want != got {
				t.Fatalf("got %q, want %q for %+v of:\n%s", got, want, req, show(routes))
			}
			_, why := r.current.Explain(&req, "")
			checkExplanation(t, why, want)
		}
	}
	require.Greater(t, matched, sets/2, "too few calls met a route for the test to mean much")
}

// update takes some of source a's routes out of force and puts others instead, in two steps, and one that is there for a
// moment only.
func (w world) update(r *tables, routes []*spec.Route) {
	passing := w.routes(2)
	r.Update("a", nil, passing)
	var gone, added []*spec.Route
	for i, old := range routes {
		if w.IntN(4) > 0 {
			continue
		}
		now := *old
		if w.IntN(2) == 0 {
			now.Priority, now.Match = w.IntN(3), []spec.Match{w.match()}
		}
		gone, added, routes[i] = append(gone, old), append(added, &now), &now
	}
	if w.IntN(2) == 0 {
		r.Update("a", gone, nil)
		gone = nil
	}
	r.Update("a", append(gone, passing...), added)
}

func show(routes []*spec.Route) string {
	var b strings.Builder
	for _, r := range routes {
		fmt.Fprintf(&b, "%s priority %d listeners %v: %s\n", r.Name, r.Priority, r.Listeners, r.Summary())
	}
	return b.String()
}

// checkExplanation wants the same choice, and a reason for each that came before.
func checkExplanation(t *testing.T, x Reasons, want string) {
	t.Helper()
	name, _, _ := strings.Cut(want, "/")
	if (x.Chosen == nil) != (want == "") || x.Chosen != nil && x.Chosen.Route != name {
		t.Fatalf("explained %+v, want %q", x.Chosen, want)
	}
	for _, s := range x.Stronger {
		if s.Reason == "" {
			t.Fatalf("no reason for %+v", s)
		}
	}
}
