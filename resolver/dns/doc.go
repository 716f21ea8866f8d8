// Package dns looks up the addresses of host names, and follows their changes.
//
// Enter at Names.Subscribe; then name.go (when a name is looked up, and what an answer changes), turn.go (how many names are
// looked up at once) and lookup.go (one look-up).
package dns
