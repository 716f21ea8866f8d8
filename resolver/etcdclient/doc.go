// Package etcdclient is the one way in which etcd is reached.
//
// Enter at New. Members of etcd may hang, be behind the others, or have no leader for a while: alive.go gives up connections
// on which nothing comes, question.go asks several members, place.go puts a watch at another member, write.go tries a change
// until etcd has said what became of it.
package etcdclient
