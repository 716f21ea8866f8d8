package plain

import (
	"unicode/utf16"
	"unicode/utf8"
)

// JSON returns a JSON document with the same meaning, in which characters that are not plain are escaped. Line breaks between
// values stay. It returns doc itself if there is nothing to escape.
func JSON(doc []byte) []byte {
	odd := firstOddJSON(doc)
	if odd < 0 {
		return doc
	}
	b := make([]byte, 0, len(doc)+64)
	for odd >= 0 {
		b = append(b, doc[:odd]...)
		r, n := utf8.DecodeRune(doc[odd:])
		b = appendJSONEscape(b, r)
		doc = doc[odd+n:]
		odd = firstOddJSON(doc)
	}
	return append(b, doc...)
}

// firstOddJSON is firstOdd for JSON, where line breaks and tabs between values are plain.
func firstOddJSON(doc []byte) int {
	marks := newMarks()
	for i := 0; i < len(doc); {
		switch b := doc[i]; {
		case isPlainASCII(b), b == '\n', b == '\t', b == '\r':
			marks = 0
			i++
			continue
		}
		r, n := utf8.DecodeRune(doc[i:])
		if r == utf8.RuneError && n <= 1 || !marks.isPlain(r) {
			return i
		}
		i += n
	}
	return -1
}

// appendJSONEscape appends the \u escape of a character: two of them for one beyond 16 bits.
func appendJSONEscape(b []byte, r rune) []byte {
	if high, low := utf16.EncodeRune(r); high != utf8.RuneError {
		return appendUnit(appendUnit(b, high), low)
	}
	return appendUnit(b, r)
}

// appendUnit appends the escape of a UTF-16 unit.
func appendUnit(b []byte, r rune) []byte {
	const hex = "0123456789abcdef"
	return append(b, '\\', 'u', hex[r>>12&0xf], hex[r>>8&0xf], hex[r>>4&0xf], hex[r&0xf])
}
