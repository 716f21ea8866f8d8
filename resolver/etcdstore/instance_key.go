package etcdstore

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/framegate/framegate/resolver/spec"
)

// ServiceKey returns the key of an instance in etcd, as registry-etcd makes it. The address is written as in Instance.
func ServiceKey(prefix, service, address string) string {
	return ServiceKeys(prefix) + service + "/" + address
}

// ServiceKeys returns what the keys of all instances start with.
func ServiceKeys(prefix string) string { return prefix + "/" }

// SplitServiceKey takes a key apart and reports false for one that is none of an instance. The name of a service has no
// slash, an address may.
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

// IsForeign reports whether a key, which is name behind ServiceKeys, is none of ours. Without a prefix all keys of etcd that
// begin with a slash are looked at, framegate's own too: those that do not end like the key of an instance are somebody
// else's. With a prefix none is.
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

// ValidateServicePrefix reports what is wrong with a prefix of the keys of instances. It may be empty, as registry-etcd's
// may: keys are /SERVICE/ADDRESS then. registry-etcd takes a prefix for a format, so it may hold no percent sign.
func ValidateServicePrefix(s string) error {
	if strings.HasSuffix(s, "/") || strings.Contains(s, "%") || !spec.Printable(s) {
		return fmt.Errorf("%q, want a prefix such as %s, without spaces, %% and a slash at its end", s, DefaultServicePrefix)
	}
	return nil
}

// ServiceOf returns the service of an instance's name, SERVICE/ADDRESS.
func ServiceOf(name string) string {
	service, _, _ := strings.Cut(name, "/")
	return service
}

// ParseRegistered is ParseInstance for a document that is stored under name.
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

// DefaultServicePrefix is what the keys of instances in etcd start with unless configured: registry-etcd's own default.
const DefaultServicePrefix = "kitex/registry-etcd"
