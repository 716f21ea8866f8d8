// Package idl has the .proto files of framegate's own services.
package idl

import _ "embed"

// Shop is shop.proto: the second demo service.
//
//go:embed shop.proto
var Shop []byte
