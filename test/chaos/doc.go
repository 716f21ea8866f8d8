// Package chaos puts a framegate under a steady load, breaks the backends behind it, and counts the calls that callers lose.
//
// Enter at plan_test.go, which has the route of every scenario, and scenario_test.go, which runs one; then the scenarios, a
// file for each kind of fault. The harness: backend.go and backend_server.go (a gRPC server in a process of its own, to be
// killed, stopped and started again), raw.go (backends that break rules in known ways), framegate.go (a framegate in a
// process of its own), load.go and stream.go (an open loop of unary calls, and ping-pong streams), report.go (the results).
// Package soak uses the harness for a longer time.
//
// Scenarios run in parallel, because one keeps a processor busy for only a fraction of its time. Each checks that its calls
// were made at their rate all the same.
//
// A process of the harness is the test's own binary: TestMain must call RunProcess first.
package chaos

import "time"

// The methods of a backend, and the metadata with which calls steer it.
const (
	Service      = "chaos.Echo"
	UnaryMethod  = "/chaos.Echo/Unary"  // answers with the request's message
	ClientMethod = "/chaos.Echo/Client" // answers with the last message when the client has finished
	ServerMethod = "/chaos.Echo/Server" // answers with CountKey times the request's message
	BidiMethod   = "/chaos.Echo/Bidi"   // answers each message with itself

	IDKey    = "chaos-id"    // the call's number; the backend counts how often it comes
	DelayKey = "chaos-delay" // how long the server waits before it answers; a Go duration
	CountKey = "chaos-count" // how many answers ServerMethod sends; default 1
)

// patience bounds the wait for a process to start or to end.
const patience = 20 * time.Second
