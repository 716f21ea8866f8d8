// Package fieldpath reads one value out of an encoded protobuf message without its schema, by the numbers of the fields that
// lead to it (protobuf.dev, "Encoding").
//
// Enter at Condition.Met; then path.go (how a path is written) and value.go (what is at the end of it).
package fieldpath

import (
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// Path leads to a field of a message by field numbers: of a field of the message, then of a field of the message in it, and so on.
type Path []protowire.Number

// maxDepth bounds how deep a path leads. protobuf libraries decode messages up to 100 deep.
const maxDepth = 32

// Parse parses a path such as "7" or "3.1". The error says what was wanted.
func Parse(s string) (Path, error) {
	parts := strings.Split(s, ".")
	if len(parts) > maxDepth {
		return nil, fmt.Errorf("%q, want at most %d field numbers", cut(s), maxDepth)
	}
	p := make(Path, len(parts))
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 31)
		if err != nil || strconv.FormatUint(n, 10) != part || !protowire.Number(n).IsValid() {
			return nil, fmt.Errorf("%q, want field numbers of 1 to %d joined by dots, such as 7 or 3.1", cut(s), protowire.MaxValidNumber)
		}
		p[i] = protowire.Number(n)
	}
	return p, nil
}

// cut shortens a text of any length for an error.
func cut(s string) string {
	const most = 64
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

// String returns the path as Parse takes it.
func (p Path) String() string {
	parts := make([]string, len(p))
	for i, n := range p {
		parts[i] = strconv.Itoa(int(n))
	}
	return strings.Join(parts, ".")
}
