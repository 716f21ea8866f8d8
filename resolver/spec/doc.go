// Package spec has the documents that people write: routes with their backends and policies, and the instances of services.
//
// Enter at ParseRoute and ParseInstance. Each part of a route has its file, with its bounds and defaults beside it: route.go
// and route_validate.go (the route, its match entries and backends), balancer_document.go, limits_document.go,
// retry_document.go and struct_document.go. pattern.go, address.go and call_key.go parse the small languages in documents;
// request.go has the parts of a call that match entries are compared with. Every error names the key, the value and what
// was wanted.
//
// Some keys have their types, defaults and bounds elsewhere: health, ejection and dns in the config.go of packages health,
// eject and dns, pool in pool/policy. Rules are checked by handler/structmode/rule (document.go). A new key of a route also
// goes into admin/openapi.json and resolver/README.md.
package spec
