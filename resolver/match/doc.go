// Package match tells which route a call gets. It knows calls and documents, and nothing of endpoints.
//
// Enter at Table, which has an Entry for each route. Lookup takes a time that does not grow with the number of routes:
// prefixes.go finds the candidates (compiled match entries) by the method, bucket.go and index.go those of one prefix by
// authority and headers, and candidate.go compares a call with one. update.go makes a changed table without a full build. The
// patterns of methods (spec.Pattern) form a tree: each is a prefix of those below it. prefixes.go, update.go, coverage.go and
// plan.go rely on that.
//
// The rest is for people: explain.go (why a call gets its route), plan.go with coverage.go (what a change would do),
// bypass.go with destination.go (calls past the rules of a route) and health.go (health checks that listeners answer
// themselves).
package match
