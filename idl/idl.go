// Package idl has the .proto files that script/gen.sh makes kitex_gen from: those of the demo's services, and gRPC's health service.
package idl

import _ "embed"

// Shop is shop.proto: the second demo service.
//
//go:embed shop.proto
var Shop []byte
