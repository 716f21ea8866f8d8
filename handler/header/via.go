package header

import (
	"strings"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
)

// viaName is what every framegate calls itself in via, whose entries are a protocol's version, a name and maybe a comment
// (RFC 9110 §7.6.3).
const (
	viaField = "via"
	viaName  = "framegate"
	viaEntry = "2 " + viaName
)

// AddVia adds this framegate to those that a call has passed. md is changed.
func AddVia(md metadata.MD) {
	via := md[viaField]
	md[viaField] = append(via[:len(via):len(via)], viaEntry)
}

// Hops counts the framegates that a call has passed.
func Hops(md metadata.MD) int { return hopsIn(md[viaField]) }

// hopsIn counts the entries of framegates in the lines of a via header.
func hopsIn(via []string) (n int) {
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
