// Package leg has the client's side of calls that framegate makes itself, in memory. One call of a client has a leg for each
// mirror that gets a copy of it, and for each target of a fan-out.
//
//	client ──> call ──> Push ──> queue ──> Leg, a stream.Downstream ──> endpoint
//	                              Answer <──────┘
//
// Enter at Leg; queue.go has the messages that wait for the endpoint.
package leg
