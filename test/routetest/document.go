package routetest

import (
	"fmt"
	"strings"
)

// NeverEjected is a key of Backend, for endpoints that fail on purpose.
const NeverEjected = "ejection: {consecutive_failures: 1000000}"

// Doc returns the document of a route, in YAML's flow style: its name, the pattern of its methods, and further keys, each
// with its value.
func Doc(name, method string, keys ...string) string {
	return fmt.Sprintf("{name: %s, match: [{method: %q}], %s}", name, method, strings.Join(keys, ", "))
}

// Backend returns the key backends of Doc: one backend with the given key and its value, none if that is empty, and with
// endpoints, each of them "address" or "address weight".
func Backend(key string, endpoints ...string) string {
	list := make([]string, len(endpoints))
	for i, e := range endpoints {
		address, weight, _ := strings.Cut(e, " ")
		list[i] = fmt.Sprintf("{address: %q", address)
		if weight != "" {
			list[i] += ", weight: " + weight
		}
		list[i] += "}"
	}
	if key != "" {
		key += ", "
	}
	return fmt.Sprintf("backends: [{%sendpoints: [%s]}]", key, strings.Join(list, ", "))
}
