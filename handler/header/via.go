package header

import (
	"strings"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
)

// The via header, and framegate's entry in it: the version of HTTP and the pseudonym of every framegate (RFC 9110 §7.6.3).
const (
	Via      = "via"
	viaName  = "framegate"
	ViaEntry = "2 " + viaName
)

// AddVia adds an entry for this framegate to the via header in md.
func AddVia(md metadata.MD) {
	via := md[Via]
	md[Via] = append(via[:len(via):len(via)], ViaEntry)
}

// Hops returns how many framegates a call has passed, by the values of its via header.
func Hops(via []string) (n int) {
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

// cutVia cuts the first entry off a comma-separated list. An entry may have a comment in parentheses, which may nest: a
// comma in a comment separates nothing.
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
