// Package match tells which route a call gets. It knows calls and documents, and nothing of endpoints.
//
// Enter at Table: it is made of entries, each a route and what its owner keeps of it, and Lookup answers in a time that does
// not grow with them. prefixes.go finds the match entries by the method, bucket.go and index.go those of one prefix by
// authority and headers, candidate.go compares a call with one; update.go changes a large table for a small change.
//
// The rest is for people: explain.go (why a call gets its route), plan.go with coverage.go (what a change would do), bypass.go
// with destination.go (calls past the rules of a route) and health.go (health checks that listeners answer themselves).
package match
