// Package plain makes text from outside, of peers and of writers to etcd, safe to show on a terminal. A terminal acts on some
// characters (ESC and other controls, C1 controls such as U+009B, DEL), lets some change how others are shown (U+202E turns
// the direction, a line break begins another line), and shows some not at all (U+200B, variation selectors, fillers), so that
// different texts look equal. Such characters, more than a few combining marks in a row, and bytes that are not UTF-8 are not
// plain: they are shown as escapes. Letters that look alike, as in Latin and Cyrillic, are plain.
//
// Text is for a value, Line for a sentence that may have such values in it, JSON and YAML for a document, Lines and JSONLines
// for a log. They, except Text, JSON and YAML, also hide the passwords of URLs; URL is for a value that may be one.
package plain

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// inkless are further characters that show nothing, or a space. Most such characters are not printable, or have Unicode's
// Default_Ignorable_Code_Point, of which the two properties in isPlain are the printable part.
var inkless = &unicode.RangeTable{
	R16: []unicode.Range16{{Lo: 0x2800, Hi: 0x2800, Stride: 1}}, // braille without dots
	R32: []unicode.Range32{
		{Lo: 0x16fe4, Hi: 0x16fe4, Stride: 1}, // the filler of Khitan
		{Lo: 0x1d159, Hi: 0x1d159, Stride: 1}, // the note without a head
	},
}

// isPlain reports whether a terminal shows the character as itself. Of all spaces only the ASCII one is plain, as in
// strconv.IsPrint.
func isPlain(r rune) bool {
	return strconv.IsPrint(r) && !unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector, inkless)
}

// maxMarks is how many combining marks in a row are plain, which is more than languages need. Marks are drawn over each
// other, so that more of them would cover other text.
const maxMarks = 4

// marks counts the combining marks in a row in a text that is read from its beginning on.
type marks int

// newMarks returns marks with which a mark at the beginning of a text is not plain, because it would combine with what was
// printed before the text.
func newMarks() marks { return maxMarks }

// isPlain is the function isPlain for the next character of the text, which must also not be one mark too many.
func (m *marks) isPlain(r rune) bool {
	if !unicode.In(r, unicode.Mn, unicode.Me) {
		*m = 0
		return isPlain(r)
	}
	*m++
	return *m <= maxMarks && isPlain(r)
}

// isPlainASCII is a fast isPlain for ASCII.
func isPlainASCII(b byte) bool { return b >= ' ' && b < 0x7f }

// firstOdd returns the index in s of the first character that is not plain, or -1.
func firstOdd(s string) int {
	marks := newMarks()
	for i := 0; i < len(s); {
		if isPlainASCII(s[i]) {
			marks = 0
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n <= 1 || !marks.isPlain(r) {
			return i
		}
		i += n
	}
	return -1
}

// Text returns s, or s quoted and escaped as in Go if it has characters that are not plain.
func Text(s string) string {
	if firstOdd(s) < 0 {
		return s
	}
	return Line(strconv.Quote(s)) // Line, because strconv.Quote leaves some characters that are not plain
}

// Line returns s with the characters that are not plain escaped where they are, line breaks too, and with the users and
// passwords of URLs in it hidden.
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
		quoted := strconv.QuoteToASCII(s[odd : odd+n])
		b.WriteString(quoted[1 : len(quoted)-1])
		s = s[odd+n:]
		odd = firstOdd(s)
	}
	b.WriteString(s)
	return b.String()
}
