// Package dns knows the addresses of host names, and follows their changes.
//
// Enter at Names.Watch; then name.go (when a name is looked up, and what an answer changes) turn.go (how many at once) and lookup.go (one look-up).
package dns
