package spec

import (
	"fmt"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// ByteSize is a number of bytes. In a document it is a whole number, or one with a unit: 512KiB, 1MiB, 2GiB.
type ByteSize int64

// byteUnits are the units of a ByteSize, largest first.
var byteUnits = []struct {
	name  string
	bytes int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// Wants implements strict.Wanter.
func (ByteSize) Wants() string { return "a number of bytes such as 4096, 512KiB, 1MiB or 2GiB" }

// UnmarshalYAML decodes a number of bytes.
func (s *ByteSize) UnmarshalYAML(n *yaml.Node) error {
	number, unit := n.Value, int64(1)
	for _, u := range byteUnits {
		if before, ok := strings.CutSuffix(n.Value, u.name); ok {
			number, unit = strings.TrimSpace(before), u.bytes
		}
	}
	v, err := strconv.ParseInt(number, 10, 64)
	if n.Kind != yaml.ScalarNode || err != nil || v*unit/unit != v {
		return fmt.Errorf("%q, want %s", n.Value, s.Wants())
	}
	*s = ByteSize(v * unit)
	return nil
}

// String returns the size with the largest unit that divides it.
func (s ByteSize) String() string {
	for _, u := range byteUnits {
		if s != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// MarshalYAML encodes what UnmarshalYAML decodes.
func (s ByteSize) MarshalYAML() (any, error) {
	if text := s.String(); !strings.HasSuffix(text, "iB") {
		return int64(s), nil
	}
	return s.String(), nil
}

// problem returns what is wrong with a size whose path is key. It may be 0, which means the default.
func (s ByteSize) problem(key string, least, most ByteSize) []error {
	if s != 0 && (s < least || s > most) {
		return []error{fmt.Errorf("%s: %s, want %s to %s", key, s, least, most)}
	}
	return nil
}
