// Package resolver answers, from memory and without blocking, which route a call takes and which endpoint it gets.
//
// Enter at Resolver.Resolve; then table.go, bucket.go and match.go (matching); target.go (what is asked for a call),
// balance.go and picker.go (choosing a backend and an endpoint), group.go and groups.go (which endpoints there are and may
// be used), group_written.go, group_names.go and address_guard.go (how what is written becomes endpoints), standing.go
// (limits) and departures.go (endpoints that leave). Routes and instances come in through Resolver.Apply and SetInstances
// from the sources: file.go, and etcd.go with follower.go and snapshot.go. route.go is the document that people write;
// store.go, put.go, plan.go and history.go read and change the routes in etcd, service_store.go and registration.go the
// instances.
package resolver
