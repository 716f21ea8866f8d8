package spec

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable reports whether s is UTF-8 of printable characters, without spaces.
func Printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) })
}
