// Package cluster is a service whose replies are lists of elements, generated from cluster.proto for clients and servers of grpc-go.
package cluster

//go:generate go run ./gen
