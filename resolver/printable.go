package resolver

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// printable reports whether s is UTF-8 of characters that can be seen.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) })
}
