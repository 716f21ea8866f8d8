// Package health checks endpoints: whether they answer grpc.health.v1, or at least take connections.
//
// Enter at Checker.Subscribe; then target.go (when an address is checked, and what the results mean), grpc.go and tcp.go
// (one check).
package health
