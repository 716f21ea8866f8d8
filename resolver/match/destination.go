package match

import (
	"bytes"
	"iter"
	"path"
	"strconv"
	"strings"

	"github.com/framegate/framegate/resolver/spec"
)

// Destination is a service or an address that a backend's document sends calls to.
type Destination struct {
	key  string // the same for all ways to write one address
	text string // for people: the address as it is written, or "service NAME"

	// A document that names the destination contains, in lower case, port (which may be empty) and one of written.
	port    string
	written []string
}

// DestinationsOf visits the destinations of a backend: its service, or its addresses. localhost has two of them.
func DestinationsOf(b *spec.Backend) iter.Seq[Destination] {
	return func(yield func(Destination) bool) {
		if b.Service != "" {
			text := "service " + b.Service
			yield(Destination{key: text, text: text, written: []string{strings.ToLower(b.Service)}})
			return
		}
		for _, e := range b.Endpoints {
			at, err := spec.ParseAddress(e.Address)
			if err != nil {
				continue // endpoints of routes are valid
			}
			for _, t := range destinationsOfAddress(at) {
				t.text = e.Address
				if !yield(t) {
					return
				}
			}
		}
	}
}

func destinationsOfAddress(a spec.Address) (all []Destination) {
	if a.Path != "" {
		return []Destination{{key: spec.UnixPrefix + path.Clean(a.Path), written: []string{strings.ToLower(path.Base(a.Path))}}}
	}
	port := strconv.Itoa(int(a.Port))
	for _, ip := range a.IPs() {
		t := Destination{key: spec.Address{IP: ip, Port: a.Port}.HostPort(), port: port, written: []string{"]:"}} // in any form of IPv6, also ::ffff:a.b.c.d
		if ip.Is4() {
			t.written = append(t.written, ip.String())
		}
		if ip.IsLoopback() {
			t.written = append(t.written, "localhost")
		}
		all = append(all, t)
	}
	if a.IsName() {
		host := strings.TrimSuffix(a.Host, ".") // with a search domain, a name without the dot may be the same as one with it
		all = append(all, Destination{key: host + ":" + port, port: port, written: []string{host}})
	}
	return all
}

// MayBeIn reports whether a document, in lower case, may name the destination. A document with a backslash may, because
// escapes can write a name in many ways.
func (t Destination) MayBeIn(doc []byte) bool {
	if bytes.IndexByte(doc, '\\') >= 0 {
		return true
	}
	if !bytes.Contains(doc, []byte(t.port)) {
		return false
	}
	for _, text := range t.written {
		if bytes.Contains(doc, []byte(text)) {
			return true
		}
	}
	return false
}
