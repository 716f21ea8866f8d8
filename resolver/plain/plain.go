// Package plain prints text of strangers: of peers, and of whoever writes to etcd. A terminal acts on some characters
// (ESC and other controls, C1 controls such as U+009B, DEL), shows others as what they are not (U+202E turns the
// direction, a line break begins another line), and some not at all (U+200B, variation selectors, fillers), so that two
// texts look equal. All of these, marks that are piled up, and what is not UTF-8, are shown as escapes, wherever people
// read such text: Text is for a value, Line for a sentence that may have some in it, JSON for a document, Writer for a
// log. Letters that look alike, as in Latin and Cyrillic, stay. Passwords in URLs are
// not shown at all: URL is for a value.
package plain

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// inkless are characters that are to be seen nowhere, or as a space, beside those of which Unicode says that whoever does
// not know them is to show nothing (Default_Ignorable_Code_Point, which is the two properties in isPlain, and characters
// that are not printable).
var inkless = &unicode.RangeTable{
	R16: []unicode.Range16{{Lo: 0x2800, Hi: 0x2800, Stride: 1}}, // braille without dots
	R32: []unicode.Range32{
		{Lo: 0x16fe4, Hi: 0x16fe4, Stride: 1}, // the filler of Khitan
		{Lo: 0x1d159, Hi: 0x1d159, Stride: 1}, // the note without a head
	},
}

// isPlain reports whether a terminal shows the character as itself. As strconv.IsPrint has it, a space is plain only if
// it is the ASCII one.
func isPlain(r rune) bool {
	return strconv.IsPrint(r) && !unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector, inkless)
}

// maxMarks is how many marks in a row are plain, which are drawn over each other: more than languages have.
const maxMarks = 4

// marks counts the marks at the end of a text that is read from its beginning on. What begins with a mark has the mark on
// what somebody else printed, or on the escape of another.
type marks int

func newMarks() marks { return maxMarks }

// isPlain is the function isPlain for the next character, which is one mark too many or not.
func (m *marks) isPlain(r rune) bool {
	if !unicode.In(r, unicode.Mn, unicode.Me) {
		*m = 0
		return isPlain(r)
	}
	*m++
	return *m <= maxMarks && isPlain(r)
}

// isPlainASCII is isPlain for what most text is made of.
func isPlainASCII(b byte) bool { return b >= ' ' && b < 0x7f }

// firstOdd returns where in s the first character is that is not plain, or -1.
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

// Text returns s, in quotes and escaped as Go does if it is not plain.
func Text(s string) string {
	if firstOdd(s) < 0 {
		return s
	}
	return Line(strconv.Quote(s)) // which takes more for plain
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
		quoted := strconv.QuoteToASCII(s[odd : odd+n])
		b.WriteString(quoted[1 : len(quoted)-1])
		s = s[odd+n:]
		odd = firstOdd(s)
	}
	b.WriteString(s)
	return b.String()
}
