// Package cluster tells which endpoint a call gets. A cluster is the endpoints of a backend: those that it lists, or the
// instances of its service.
//
// Enter at Target, which belongs to a call: Admit it, Pick an endpoint for each Attempt, Release it. backends.go has what a
// version of a route is at work (it chooses the backend and makes the Target), picker.go chooses the endpoint, limits.go
// counts calls. cluster.go is a cluster; members.go, names.go and address_guard.go say how what is written becomes its
// endpoints. Set, in clusters.go and set.go, has all of them; endpoint_tracker.go tells which endpoints have left, state.go,
// explain.go and reachability.go what is known of them, for people.
package cluster
