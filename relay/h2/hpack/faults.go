package hpack

import "strings"

// Faults is a set of reasons why a field must not be forwarded as it is. 0 is a valid field.
type Faults uint8

const (
	// EmptyName is a name of no bytes.
	EmptyName Faults = 1 << iota
	// BadName has a byte that is no token character of RFC 9110 section 5.6.2, an upper case letter, or a colon that is not the
	// first byte (RFC 9113 section 8.2.1).
	BadName
	// UnknownPseudo begins with a colon but is no pseudo-header field of RFC 9113 section 8.3 or RFC 8441.
	UnknownPseudo
	// BadValue has NUL, CR or LF in it, or is the value of a pseudo-header field with a space or tab at either end (RFC 9113
	// section 8.2.1).
	BadValue
	// PaddedValue is any other that has a space or tab at either end, which RFC 9113 section 8.2.1 forbids, and gRPC has: a grpc-message may end in
	// a space, and metadata may have spaces at its ends (gRPC over HTTP/2, "Custom-Metadata").
	PaddedValue
	// ControlValue has another ASCII control character in its value: RFC 9110 section 5.5 forbids it, RFC 9113 section 8.2.1 does
	// not demand that it be refused. A tab between other bytes is no fault.
	ControlValue
	// BadTE is te with a value other than "trailers" (RFC 9113 section 8.2.2).
	BadTE
	// BadBinary is a field whose name ends in "-bin" and whose value is not base64: the standard alphabet, padded or not, or a list
	// of such with commas, and spaces or tabs around them, between.
	BadBinary
)

func faultsOf(name, value string, kind Kind, binary bool) Faults {
	faults := nameFaults(name, kind) | valueFaults(value, kind)
	if kind == TE && value != "trailers" {
		faults |= BadTE
	}
	if binary && !base64List(value) {
		faults |= BadBinary
	}
	return faults
}

func nameFaults(name string, kind Kind) Faults {
	if name == "" {
		return EmptyName
	}
	var faults Faults
	if name[0] == ':' {
		if !kind.Pseudo() {
			faults = UnknownPseudo
		}
		name = name[1:]
	}
	for i := range len(name) {
		if bytesAre[name[i]]&inName == 0 {
			return faults | BadName
		}
	}
	return faults
}

func valueFaults(value string, kind Kind) Faults {
	if value == "" {
		return 0
	}
	var faults Faults
	if blank(value[0]) || blank(value[len(value)-1]) {
		if faults = PaddedValue; kind.Pseudo() {
			faults = BadValue
		}
	}
	for i := range len(value) {
		if c := value[i]; bytesAre[c]&control != 0 {
			if c == 0 || c == '\r' || c == '\n' {
				faults |= BadValue
			} else {
				faults |= ControlValue
			}
		}
	}
	return faults
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

func base64List(value string) bool {
	for {
		item, rest, more := strings.Cut(value, ",")
		if !isBase64(strings.Trim(item, " \t")) {
			return false
		}
		if !more {
			return true
		}
		value = rest
	}
}

// isBase64 takes the empty string for the encoding of no bytes.
func isBase64(s string) bool {
	digits := strings.TrimSuffix(strings.TrimSuffix(s, "="), "=")
	for i := range len(digits) {
		if bytesAre[digits[i]]&inBase64 == 0 {
			return false
		}
	}
	return len(digits)%4 != 1 && (len(digits) == len(s) || len(s)%4 == 0)
}

// What a byte may be part of.
const (
	inName   = 1 << iota // a name in HTTP/2: a token without upper case letters
	inBase64             // base64 in the standard alphabet
	control              // ASCII control characters but for the tab
)

var bytesAre = classes()

func classes() (is [256]uint8) {
	for c := range is {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			is[c] = inName | inBase64
		case c >= 'A' && c <= 'Z', c == '/':
			is[c] = inBase64
		case c == '+':
			is[c] = inName | inBase64
		case c < 0x80 && strings.IndexByte("!#$%&'*-.^_`|~", byte(c)) >= 0:
			is[c] = inName
		case c < ' ' && c != '\t', c == 0x7f:
			is[c] = control
		}
	}
	return is
}
