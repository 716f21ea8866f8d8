// Package resolver answers, from memory and without blocking, which route a call takes and which endpoint it gets.
//
// Enter at Resolver.Resolve; then table.go (matching), balance.go (choosing an endpoint). Routes come in through
// Resolver.Apply from the sources: file.go and etcd.go. route.go is the document that people write.
package resolver
