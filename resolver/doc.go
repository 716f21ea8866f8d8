// Package resolver answers, from memory and without blocking, which route a call takes and which endpoint it gets.
//
// Enter at Resolver.Resolve. Its parts are rooms of their own, and none knows those below it in this list:
//
//	spec        the documents that people write: routes, backends and their policies, instances
//	match       which route a call gets: tables of match entries, explanations, plans of changes
//	cluster     which endpoint a call gets: clusters of endpoints, their health, limits, Target and Attempt
//	resolver    the three joined: Resolver, and the programs of its routes
//	filesource  routes of a file
//	etcdclient  how etcd is reached, and how something is changed there
//	etcdstore   what is in etcd: routes, schemas and instances, read and changed
//	etcdsource  routes and instances of etcd, followed
//
// Routes and instances come in through Resolver.Apply, Update and SetInstances. What is in force is what calls that begin
// now go by; a change takes the place of what was in force in one step, and calls keep what they began with.
package resolver
