// Package etcdsource puts the routes and the registered instances that are in etcd in force, and follows their changes.
//
// Enter at Source.Run. Routes, schemas and instances have a follower each, which reads all documents and then watches them
// (follower.go, watch.go, probe.go). bindings.go compiles routes with their schemas, waiting_routes.go holds a route back
// until the host names of its endpoints were looked up, keep.go with hold.go and losses.go keeps instances that vanish
// while etcd is in trouble. snapshot.go and stand_in.go keep the last good state for a start without etcd; reachability.go
// knows whether etcd can be used.
package etcdsource
