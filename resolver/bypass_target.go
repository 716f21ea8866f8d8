package resolver

import (
	"bytes"
	"iter"
	"path"
	"strconv"
	"strings"
)

// target is what a backend sends calls to, as far as its document says.
type target struct {
	key  string // the same for all ways to write one address
	text string // for people: the address as it is written, or "service NAME"

	// What a document that has the target has in it, in lower case: the port, if there is one, and one of the others.
	port    string
	written []string
}

// targetsOf visits a backend's service, or its addresses: localhost for each of those that it is.
func targetsOf(b *Backend) iter.Seq[target] {
	return func(yield func(target) bool) {
		if b.Service != "" {
			text := "service " + b.Service
			yield(target{key: text, text: text, written: []string{strings.ToLower(b.Service)}})
			return
		}
		for _, e := range b.Endpoints {
			at, err := parseAddress(e.Address)
			if err != nil {
				continue // endpoints of routes are valid
			}
			for _, t := range targetsOfAddress(at) {
				t.text = e.Address
				if !yield(t) {
					return
				}
			}
		}
	}
}

func targetsOfAddress(a address) (all []target) {
	if a.path != "" {
		return []target{{key: unixPrefix + path.Clean(a.path), written: []string{strings.ToLower(path.Base(a.path))}}}
	}
	port := strconv.Itoa(int(a.port))
	for _, ip := range a.ips() {
		t := target{key: address{ip: ip, port: a.port}.hostPort(), port: port, written: []string{"]:"}} // as IPv6 addresses are, ::ffff:a.b.c.d too
		if ip.Is4() {
			t.written = append(t.written, ip.String())
		}
		if ip.IsLoopback() {
			t.written = append(t.written, "localhost")
		}
		all = append(all, t)
	}
	if a.isName() {
		host := strings.TrimSuffix(a.host, ".") // an absolute name is one that the search domains may make of another
		all = append(all, target{key: host + ":" + port, port: port, written: []string{host}})
	}
	return all
}

// mayBeIn reports whether a document, in lower case, may have the target. With a backslash in it the target may be written
// in any way.
func (t target) mayBeIn(doc []byte) bool {
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
