package handler

import (
	"strings"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"

	"github.com/framegate/framegate/handler/local"
)

// DefaultMaxHops is the default of Config.MaxHops.
const DefaultMaxHops = 8

// viaName is what every framegate calls itself in via, whose entries are a protocol's version, a name and maybe a comment
// (RFC 9110 §7.6.3).
const (
	viaField = "via"
	viaName  = "framegate"
	viaEntry = "2 " + viaName
)

// checkHops returns the local error of a call that has passed too many framegates: their routes lead to each other, or that
// of one to itself, and would hand it on for ever.
func (p *Proxy) checkHops(md metadata.MD) *local.Error {
	via := md[viaField]
	if p.maxHops == 0 || len(via) == 0 {
		return nil
	}
	n := hops(via)
	if n <= p.maxHops {
		return nil
	}
	e := local.Errorf(codes.Internal, local.ReasonLoopDetected, "the call has passed %d framegates, more than max_hops %d: their routes lead to each other", n, p.maxHops)
	e.Pushback = local.NoRetry // by the framegates that it came through: each would send it round again
	return e
}

// addVia adds this framegate to those that the call has passed.
func (p *Proxy) addVia(md metadata.MD) {
	if p.maxHops > 0 {
		via := md[viaField]
		md[viaField] = append(via[:len(via):len(via)], viaEntry)
	}
}

// hops counts the entries of framegates in the lines of a via header.
func hops(via []string) (n int) {
	for _, rest := range via {
		for rest != "" {
			var entry string
			entry, rest = cutVia(rest)
			if f := strings.Fields(entry); len(f) >= 2 && f[1] == viaName {
				n++
			}
		}
	}
	return n
}

// cutVia cuts the first entry off a list. Commas in a comment, which is in parentheses and may hold others, part nothing.
func cutVia(list string) (entry, rest string) {
	depth := 0
	for i := 0; i < len(list); i++ {
		switch c := list[i]; {
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
		case c == '\\' && depth > 0:
			i++ // the next character stands for itself
		case c == ',' && depth == 0:
			return list[:i], list[i+1:]
		}
	}
	return list, ""
}
