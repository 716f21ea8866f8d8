// Package plain prints text of strangers: of peers, and of whoever writes to etcd. A terminal acts on some characters
// (ESC and other controls, C1 controls such as U+009B, DEL) and shows others as what they are not (U+202E turns the
// direction, a line break begins another line, U+200B is not seen). All of these, and what is not UTF-8, are shown as
// escapes, wherever people read such text: Text is for a value, Line for a sentence that may have some in it, JSON for a
// document, Writer for a log. Passwords in URLs are not shown at all: URL is for a value.
package plain

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// isPlain reports whether a terminal shows the character as itself. As strconv.IsPrint has it, a space is plain only if
// it is the ASCII one.
func isPlain(r rune) bool { return strconv.IsPrint(r) }

// isPlainASCII is isPlain for what most text is made of.
func isPlainASCII(b byte) bool { return b >= ' ' && b < 0x7f }

// firstOdd returns where in s the first character is that is not plain, or -1.
func firstOdd(s string) int {
	for i := 0; i < len(s); {
		if isPlainASCII(s[i]) {
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n <= 1 || !isPlain(r) {
			return i
		}
		i += n
	}
	return -1
}

// Text returns s, in quotes and escaped as Go does if it is not plain.
func Text(s string) string {
	if firstOdd(s) < 0 {
		return s
	}
	return strconv.Quote(s)
}

// Line returns s with all that is not plain escaped in its place, line breaks too, and without the users and passwords of
// URLs in it.
func Line(s string) string {
	s = WithoutPasswords(s)
	odd := firstOdd(s)
	if odd < 0 {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 16)
	for odd >= 0 {
		b.WriteString(s[:odd])
		_, n := utf8.DecodeRuneInString(s[odd:])
		quoted := strconv.Quote(s[odd : odd+n])
		b.WriteString(quoted[1 : len(quoted)-1])
		s = s[odd+n:]
		odd = firstOdd(s)
	}
	b.WriteString(s)
	return b.String()
}
