package spec

import (
	"fmt"
	"strings"
)

// Kind says how much of a method a pattern fixes. A greater Kind is more specific and wins.
type Kind uint8

// The kinds of pattern, least specific first.
const (
	KindAny     Kind = iota // *
	KindPackage             // /pkg.*
	KindService             // /pkg.Service/*
	KindExact               // /pkg.Service/Method
)

// Pattern matches full method names, "/pkg.Service/Method" as in the :path of a gRPC request. A package pattern
// matches every service of the package and of the packages below it: /a.* matches /a.S/M and /a.b.S/M.
type Pattern struct {
	Kind Kind
	// Prefix is what a method must start with (the whole method for KindExact): it ends with "/" for KindService and
	// with "." for KindPackage, and is empty for KindAny.
	Prefix string
}

const maxMethodLen = 1024

// ValidMethod reports whether s is the full name of a method, "/pkg.Service/Method": a service, which is identifiers with
// dots between them, and one identifier, of at most 1024 bytes together. Every name in Protocol Buffers and in Thrift is
// valid. A name with an empty part, an escape or a query is not, because a server might read it as another name. Only calls
// of valid names get a route.
func ValidMethod(s string) bool {
	if len(s) > maxMethodLen || !strings.HasPrefix(s, "/") {
		return false
	}
	service, method, _ := strings.Cut(s[1:], "/")
	return validDotted(service) && validIdent(method)
}

// ParsePattern parses /pkg.Service/Method, /pkg.Service/*, /pkg.* or *.
func ParsePattern(s string) (Pattern, error) {
	bad := fmt.Errorf("%q, want /pkg.Service/Method, /pkg.Service/*, /pkg.* or *", s)
	if s == "*" {
		return Pattern{Kind: KindAny}, nil
	}
	if len(s) > maxMethodLen || !strings.HasPrefix(s, "/") {
		return Pattern{}, bad
	}
	service, method, hasMethod := strings.Cut(s[1:], "/")
	switch {
	case !hasMethod:
		pkg, ok := strings.CutSuffix(service, ".*")
		if !ok || !validDotted(pkg) {
			return Pattern{}, bad
		}
		return Pattern{Kind: KindPackage, Prefix: "/" + pkg + "."}, nil
	case !validDotted(service):
		return Pattern{}, bad
	case method == "*":
		return Pattern{Kind: KindService, Prefix: "/" + service + "/"}, nil
	case !ValidMethod(s):
		return Pattern{}, bad
	}
	return Pattern{Kind: KindExact, Prefix: s}, nil
}

// Match reports whether the pattern matches method, "/pkg.Service/Method".
func (p Pattern) Match(method string) bool {
	if p.Kind == KindExact {
		return method == p.Prefix
	}
	return strings.HasPrefix(method, p.Prefix)
}

// MoreSpecific reports whether p is more specific than q, of two patterns that match one method: the order is exact,
// service, longer package, any.
func (p Pattern) MoreSpecific(q Pattern) bool {
	if p.Kind != q.Kind {
		return p.Kind > q.Kind
	}
	return len(p.Prefix) > len(q.Prefix)
}

func validDotted(s string) bool {
	for part := range strings.SplitSeq(s, ".") {
		if !validIdent(part) {
			return false
		}
	}
	return true
}

// validIdent reports whether s has only the characters of Protocol Buffers and Thrift identifiers, "-", which some servers
// use in paths, and "$", which Kitex's generic services have.
func validIdent(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '-', c == '$':
		default:
			return false
		}
	}
	return true
}

// Enclosing returns the patterns that match every method that p matches: p itself, then broader and broader ones.
func (p Pattern) Enclosing() []Pattern {
	all := []Pattern{p}
	name := p.Prefix // "/pkg.Service"
	switch p.Kind {
	case KindAny:
		return all
	case KindPackage:
		name = strings.TrimSuffix(name, ".")
	default:
		slash := strings.LastIndexByte(name, '/')
		if p.Kind == KindExact {
			all = append(all, Pattern{Kind: KindService, Prefix: name[:slash+1]})
		}
		name = name[:slash]
	}
	for dot := strings.LastIndexByte(name, '.'); dot >= 0; dot = strings.LastIndexByte(name, '.') {
		all = append(all, Pattern{Kind: KindPackage, Prefix: name[:dot+1]})
		name = name[:dot]
	}
	return append(all, Pattern{Kind: KindAny})
}

// String returns the pattern as people write it.
func (p Pattern) String() string {
	if p.Kind == KindExact {
		return p.Prefix
	}
	return p.Prefix + "*"
}
