// Package resolver answers, from memory and without blocking, which route a call takes and which endpoint it gets.
//
// Enter at Resolver.Resolve; then table.go, bucket.go and match.go (matching), balance.go and services.go (choosing an
// endpoint). Routes and instances come in through Resolver.Apply and SetInstances from the sources: file.go, and etcd.go
// with follower.go and snapshot.go. route.go is the document that people write; store.go, put.go, plan.go and history.go
// read and change the routes in etcd, service_store.go and registration.go the instances.
package resolver
