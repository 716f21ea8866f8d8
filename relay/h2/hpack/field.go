package hpack

import "strings"

// Field is one header field: immutable, shared by all who carry it. An Interner or NewField makes it; another, the zero Field
// among them, cannot be encoded.
type Field struct {
	Name, Value string
	// Faults says why the field must not be forwarded as it is: 0 for a valid one.
	Faults Faults
	Kind   Kind
	// Sensitive fields came as never indexed (RFC 7541 section 6.2.3), and an Encoder writes them so too.
	Sensitive bool

	binary    bool
	indexable bool  // worth an entry in an Encoder's table
	static    uint8 // index of the entry of the static table that equals the field, 0 if none does
	nameIndex uint8 // index of the first entry of the static table with the name, 0 if none has it
	hash      uint32
	literal   string // the representation of the field that touches no table (RFC 7541 sections 6.2.2 and 6.2.3)
}

// maxIndexedBytes bounds the size of a field that an Encoder puts into its table: a longer one would drive out too many others.
const maxIndexedBytes = 512

// NewField makes a field that is not shared: for what a program says itself, or what will hardly come again. Values that must
// not be compressed, for the reasons of RFC 7541 section 7.1.3, are sensitive.
func NewField(name, value string, sensitive bool) *Field {
	return newField([]byte(name), []byte(value), sensitive)
}

// Binary reports whether the name ends in "-bin": gRPC carries bytes in such a field, encoded as base64.
func (f *Field) Binary() bool { return f.binary }

// Size is what the field counts in a header list (RFC 9113 section 6.5.2) and in a dynamic table (RFC 7541 section 4.1).
func (f *Field) Size() int { return fieldOverhead + len(f.Name) + len(f.Value) }

const fieldOverhead = 32

// newField does not keep name and value.
func newField(name, value []byte, sensitive bool) *Field {
	nameIndex := staticNames[string(name)]
	if nameIndex != 0 && !sensitive {
		for i := nameIndex; i < firstDynamic && staticFields[i].Name == string(name); i++ {
			if staticFields[i].Value == string(value) {
				return staticFields[i]
			}
		}
	}
	return makeField(name, value, sensitive, nameIndex)
}

// makeField does not look for the field in the static table. Name and Value share the memory of the literal as far as they are
// part of it.
func makeField(name, value []byte, sensitive bool, nameIndex uint8) *Field {
	f := &Field{Sensitive: sensitive, nameIndex: nameIndex, hash: hashOf(name, value, sensitive)}
	form := literalPlain
	if sensitive {
		form = literalNever
	}
	var head [2 * maxIntegerBytes]byte // the integers before name and value
	var b strings.Builder
	if nameIndex != 0 {
		f.Name = staticTable[nameIndex][0]
		h := appendInteger(appendInteger(head[:0], form.bits, form.prefix, uint32(nameIndex)), 0, 7, uint32(len(value)))
		b.Grow(len(h) + len(value))
		b.Write(h)
	} else {
		h := appendInteger(append(head[:0], form.bits), 0, 7, uint32(len(name)))
		at := len(h)
		h = appendInteger(h, 0, 7, uint32(len(value)))
		b.Grow(len(h) + len(name) + len(value))
		b.Write(h[:at])
		b.Write(name)
		b.Write(h[at:])
		f.Name = b.String()[at : at+len(name)]
	}
	b.Write(value)
	f.literal = b.String()
	f.Value = f.literal[len(f.literal)-len(value):]
	f.Kind = kindOf(f.Name)
	f.binary = strings.HasSuffix(f.Name, "-bin") && f.Name[0] != ':'
	f.Faults = faultsOf(f.Name, f.Value, f.Kind, f.binary)
	// The timeout of a call is not that of the next.
	f.indexable = !sensitive && f.Kind != GRPCTimeout && !isSecret(f.Name) && f.Size() <= maxIndexedBytes
	return f
}

// isSecret reports whether the values of that name are secrets of one client. Clients whose calls share a connection could
// otherwise find out each other's: what they guess right makes a block shorter (RFC 7541 section 7.1). set-cookie is none of them:
// a client gets its own answers alone.
func isSecret(name string) bool {
	switch name {
	case "authorization", "proxy-authorization", "cookie":
		return true
	}
	return false
}

// appendIndexing writes the field so that the reader puts it into its table (RFC 7541 section 6.2.1). The literal has another
// first integer, and the same bytes after it.
func (f *Field) appendIndexing(dst []byte) []byte {
	first := 1
	if int(f.nameIndex) >= 1<<literalPlain.prefix-1 {
		first = 2
	}
	dst = appendInteger(dst, literalIndexing.bits, literalIndexing.prefix, uint32(f.nameIndex))
	return append(dst, f.literal[first:]...)
}
