package etcdstore

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/framegate/framegate/resolver/spec"
)

// ServiceKey returns the key of an instance in etcd, in registry-etcd's layout. The address is written as in spec.Instance.
func ServiceKey(prefix, service, address string) string {
	return ServiceKeys(prefix) + service + "/" + address
}

// ServiceKeys returns the text that the keys of all instances start with.
func ServiceKeys(prefix string) string { return prefix + "/" }

// SplitServiceKey splits the key of an instance; ok is false if it is not such a key. The name of a service has no slash, an
// address may.
func SplitServiceKey(prefix, key string) (service, address string, ok bool) {
	rest, ok := strings.CutPrefix(key, ServiceKeys(prefix))
	if !ok {
		return "", "", false
	}
	service, address, ok = strings.Cut(rest, "/")
	if !ok || address == "" || spec.ValidServiceName(service) != nil {
		return "", "", false
	}
	return service, address, true
}

// IsForeign reports whether the key ServiceKeys + name is not meant for an instance at all. With a prefix no key is foreign.
// Without one all keys that begin with a slash are looked at, also those of framegate's routes; the ones that do not end
// like the key of an instance are foreign.
func IsForeign(prefix, name string) bool {
	if prefix != "" {
		return false
	}
	_, address, ok := SplitServiceKey(prefix, ServiceKeys(prefix)+name)
	if !ok {
		return true
	}
	if strings.HasPrefix(address, "/") || strings.HasPrefix(address, spec.UnixPrefix) {
		return false
	}
	colon := strings.LastIndexByte(address, ':')
	_, err := strconv.ParseUint(address[colon+1:], 10, 16)
	return colon <= 0 || err != nil || strings.Contains(address, "/")
}

// ValidateServicePrefix returns what is wrong with a prefix of the keys of instances; nil if it is valid. It may be empty, as
// in registry-etcd; keys are /SERVICE/ADDRESS then. registry-etcd uses the prefix as a format, so a percent sign is invalid.
func ValidateServicePrefix(s string) error {
	if strings.HasSuffix(s, "/") || strings.Contains(s, "%") || !spec.Printable(s) {
		return fmt.Errorf("%q, want a prefix such as %s, without spaces, %% and a slash at its end", s, DefaultServicePrefix)
	}
	return nil
}

// ServiceOf returns the service in the name of an instance's document, which is SERVICE/ADDRESS.
func ServiceOf(name string) string {
	service, _, _ := strings.Cut(name, "/")
	return service
}

// ParseRegistered parses the document of an instance that is stored under name, which is SERVICE/ADDRESS.
func ParseRegistered(name string, value []byte) (spec.Instance, error) {
	service, address, _ := strings.Cut(name, "/")
	if err := spec.ValidServiceName(service); err != nil {
		return spec.Instance{}, fmt.Errorf("service: %w", err)
	}
	if address == "" {
		return spec.Instance{}, fmt.Errorf("key: %q, want SERVICE/ADDRESS", name)
	}
	return spec.ParseInstance(value)
}

// DefaultServicePrefix is the default prefix of the keys of instances, which is also registry-etcd's default.
const DefaultServicePrefix = "kitex/registry-etcd"
