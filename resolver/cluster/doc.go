// Package cluster chooses the endpoint that a call goes to. A cluster is the endpoints of a backend: those that it lists, or
// the instances of its service. An endpoint is usable if its health checks, if any, find it healthy and it is not ejected. A
// cluster with too few usable endpoints is in panic: calls go to all of its endpoints.
//
// Enter at Target, which belongs to a call: Admit it, Pick an endpoint for each Attempt, Release it. backends.go has the
// backends of a version of a route (it chooses the backend and makes the Target), picker.go chooses the endpoint, limits.go
// counts calls. cluster.go is a cluster; members.go, names.go and address_guard.go make its members from the endpoints that
// are written or registered. Set, in clusters.go and set.go, has all clusters; endpoint_tracker.go tells which endpoints have
// left, and state.go says for people what is known of them.
package cluster
