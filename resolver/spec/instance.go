package spec

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/framegate/framegate/resolver/plain"
)

// DefaultInstanceWeight is the weight of an instance that registered without one. It is that of registry-etcd's resolver.
const DefaultInstanceWeight = 10

const (
	maxServiceNameLen = 255
	maxInstanceBytes  = 64 << 10 // of the document
)

// Instance is one registered instance of a service.
type Instance struct {
	Address string            `json:"address" yaml:"address"`               // host:port or unix:/path, as in Endpoint
	Weight  int               `json:"weight" yaml:"weight"`                 // 1 to MaxWeight
	Tags    map[string]string `json:"tags,omitempty" yaml:"tags,omitempty"` // nil if there are none
}

// Validate returns every mistake of the instance.
func (in Instance) Validate() error {
	var errs []error
	if err := ValidateAddress(in.Address); err != nil {
		errs = append(errs, fmt.Errorf("address: %w", err))
	}
	if err := ValidateWeight(in.Weight); err != nil {
		errs = append(errs, fmt.Errorf("weight: %w", err))
	}
	for k, v := range in.Tags {
		if k == "" || !utf8.ValidString(k) || !utf8.ValidString(v) {
			errs = append(errs, fmt.Errorf("tags: %q: %q, want a key that is not empty, and both in UTF-8", k, v))
		}
	}
	return errors.Join(errs...)
}

// ValidateWeight returns what is wrong with the weight of an instance; nil if it is 1 to MaxWeight.
func ValidateWeight(weight int) error {
	if weight < 1 || weight > MaxWeight {
		return fmt.Errorf("%d, want 1 to %d", weight, MaxWeight)
	}
	return nil
}

// Equal reports whether both have the same address, weight and tags.
func (in Instance) Equal(other Instance) bool {
	return in.Address == other.Address && in.Weight == other.Weight && maps.Equal(in.Tags, other.Tags)
}

// instanceDocument is an instance as registry-etcd stores it.
type instanceDocument struct {
	Network string            `json:"network"` // tcp or unix
	Address string            `json:"address"` // host:port, or a path
	Weight  int               `json:"weight"`
	Tags    map[string]string `json:"tags"`
}

// instanceKinds says, by the key of an instanceDocument, what values are wanted; for errors.
var instanceKinds = map[string]string{
	"network": "a string", "address": "a string", "weight": fmt.Sprintf("a number from 1 to %d", MaxWeight), "tags": "an object of strings",
}

const (
	networkTCP  = "tcp"
	networkUnix = "unix"
)

// ParseInstance parses an instance as registry-etcd stores it: a JSON object of network, address, weight and tags. As
// registry-etcd's resolver does, it replaces a weight of 0 or less by DefaultInstanceWeight, and ignores other keys. An IPv6
// address may be without brackets; see Bracketed. The error names every mistake.
func ParseInstance(value []byte) (Instance, error) {
	if len(value) > maxInstanceBytes {
		return Instance{}, fmt.Errorf("document of %d bytes, want at most %d", len(value), maxInstanceBytes)
	}
	var doc instanceDocument
	if err := json.Unmarshal(value, &doc); err != nil {
		if kind := (*json.UnmarshalTypeError)(nil); errors.As(err, &kind) && kind.Field != "" {
			return Instance{}, fmt.Errorf("%s: a JSON %s, want %s", kind.Field, kind.Value, instanceKinds[kind.Field])
		}
		return Instance{}, fmt.Errorf("%w, want {network, address, weight, tags} in JSON", err)
	}
	in := Instance{Address: doc.Address, Weight: doc.Weight}
	if len(doc.Tags) > 0 {
		in.Tags = doc.Tags
	}
	if in.Weight <= 0 {
		in.Weight = DefaultInstanceWeight
	}
	var errs []error
	switch doc.Network {
	case networkTCP, "tcp4", "tcp6":
		in.Address = Bracketed(doc.Address)
		if strings.HasPrefix(doc.Address, UnixPrefix) {
			errs = append(errs, fmt.Errorf("address: %q, want host:port beside network %s", plain.URL(doc.Address), doc.Network))
		}
	case networkUnix:
		in.Address = UnixPrefix + doc.Address
	default:
		errs = append(errs, fmt.Errorf("network: %q, want %s or %s", doc.Network, networkTCP, networkUnix))
	}
	if err := errors.Join(append(errs, in.Validate())...); err != nil {
		return Instance{}, err
	}
	return in, nil
}

// Encode returns the document of a valid instance, of which ParseInstance makes the same instance.
func (in Instance) Encode() ([]byte, error) {
	if err := in.Validate(); err != nil {
		return nil, err
	}
	doc := instanceDocument{Network: networkTCP, Address: in.Address, Weight: in.Weight, Tags: in.Tags}
	if path, ok := strings.CutPrefix(in.Address, UnixPrefix); ok {
		doc.Network, doc.Address = networkUnix, path
	}
	value, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	if len(value) > maxInstanceBytes {
		return nil, fmt.Errorf("tags: document of %d bytes with them, want at most %d", len(value), maxInstanceBytes)
	}
	return value, nil
}

// Bracketed returns [IPv6]:port for IPv6:port, which registry-etcd writes, and any other address as it is. The last colon is
// before the port, since every instance has one: 2001:db8::1:9001 is port 9001 of 2001:db8::1.
func Bracketed(address string) string {
	i := strings.LastIndexByte(address, ':')
	if i < 0 || address[0] == '[' {
		return address
	}
	host, port := address[:i], address[i+1:]
	ip, err := netip.ParseAddr(host)
	if n, bad := strconv.ParseUint(port, 10, 16); err != nil || !ip.Is6() || bad != nil || strconv.FormatUint(n, 10) != port {
		return address
	}
	return net.JoinHostPort(host, port)
}
