// Package spec is what people write: routes with their backends and policies, and the instances of services.
//
// Enter at ParseRoute and ParseInstance. Each part of a route has its file, with its bounds and defaults beside it: route.go
// and route_validate.go (the route, its match entries and backends), balancer_document.go, limits_document.go,
// pool_document.go, retry_document.go and struct_document.go. pattern.go, address.go and call_key.go are the small languages
// in them; request.go is what of a call they speak about. Every error names the key, the value and what was wanted.
package spec
