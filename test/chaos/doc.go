// Package chaos puts a framegate under a steady load, breaks what is behind it, and counts what callers lost.
//
// Enter at plan_test.go, where the route of every scenario stands, and scenario_test.go, which runs one; then the
// scenarios, a file for each kind of fault. The harness: backend.go and backend_server.go (a gRPC server in a process
// of its own, to be killed, stopped and started again), raw.go (backends that break rules in known ways), framegate.go
// (a framegate in a process of its own), load.go and stream.go (an open loop of unary calls, and streams that
// ping-pong), report.go (what came of them). Package soak uses the harness for a longer time.
//
// Scenarios run side by side, because one keeps a processor busy for a fraction of its time; each asserts that its load
// came at its rate all the same.
//
// A process of the harness is the test's own binary: TestMain must call RunProcess first.
package chaos

import "time"

// What a backend is called by, and what calls tell it in their metadata.
const (
	Service      = "chaos.Echo"
	UnaryMethod  = "/chaos.Echo/Unary"  // answers with the request's message
	ClientMethod = "/chaos.Echo/Client" // answers with the last message when the client has finished
	ServerMethod = "/chaos.Echo/Server" // answers with CountKey times the request's message
	BidiMethod   = "/chaos.Echo/Bidi"   // answers each message with itself

	IDKey    = "chaos-id"    // a number; how often a call of that number has come is counted
	DelayKey = "chaos-delay" // how long the server waits before it answers; a Go duration
	CountKey = "chaos-count" // how many answers ServerMethod sends; default 1
)

// patience bounds the wait for a process to start or to end.
const patience = 20 * time.Second
