package chaos

import (
	"fmt"
	"strings"
	"testing"
)

// plan is what a route says beyond its match and its endpoints: further keys, each with its value in YAML's flow style.
type plan struct {
	route     []string // of the route
	backend   []string // of its only backend
	mayRepeat bool     // codes are listed, so that a call may come to a server more than once
}

// The routes of all scenarios. What a caller gets is asserted by the tests that use them.
var (
	// defaults is a route with nothing but endpoints.
	defaults = plan{}

	// retrying lists a code that no server here answers with, so only what no server has seen is sent again.
	retrying = plan{route: []string{
		`retry: {attempts: 3, codes: [ABORTED], backoff: {base: 10ms, max: 100ms}}`,
	}}

	// repeating also sends again what may have been seen. Its budget is enough for all that a backend may hold.
	repeating = plan{mayRepeat: true, route: []string{
		`retry: {attempts: 3, codes: [UNAVAILABLE], backoff: {base: 10ms, max: 100ms}, budget: {percent: 100, min: 100}}`,
	}}

	// impatient gives each try half a second. A try that took too long ends with UNAVAILABLE or DEADLINE_EXCEEDED.
	impatient = plan{mayRepeat: true, route: []string{
		`retry: {attempts: 3, codes: [UNAVAILABLE, DEADLINE_EXCEEDED], per_try_timeout: 500ms, ` +
			`backoff: {base: 10ms, max: 100ms}, budget: {percent: 100, min: 100}}`,
	}}

	// hedging asks a second endpoint when the first takes long.
	hedging = plan{mayRepeat: true, route: []string{
		`hedge: {delay: 100ms, budget: {percent: 100, min: 100}}`,
	}}

	// returning is impatient too, and takes an endpoint back soon after it was ejected.
	returning = plan{mayRepeat: true, route: impatient.route, backend: []string{
		`ejection: {base_time: 500ms, max_time: 1s}`,
	}}

	// checked asks its endpoints how they are.
	checked = plan{backend: []string{
		`health: {type: grpc, interval: 500ms, timeout: 250ms, rise: 2, fall: 2}`,
	}}

	// connectingFast gives up a connection that says nothing after a second.
	connectingFast = plan{backend: []string{
		`pool: {connect_timeout: 1s}`,
	}}

	// probing asks connections that have gone silent for a sign of life.
	probing = plan{backend: []string{
		`pool: {connect_timeout: 500ms, keepalive: {time: 1s, timeout: 1s}}`,
	}}

	// failingWhenFull does not wait for a stream.
	failingWhenFull = plan{backend: []string{
		`pool: {when_full: fail}`,
	}}
)

// inBothModes runs a test with the plan in frame mode and in struct mode, side by side.
func (p plan) inBothModes(t *testing.T, test func(t *testing.T, p plan)) {
	t.Run("frame", func(t *testing.T) {
		t.Parallel()
		test(t, p)
	})
	t.Run("struct", func(t *testing.T) {
		t.Parallel()
		structured := p
		structured.route = append(StructKeys(t), p.route...)
		test(t, structured)
	})
}

// document returns a routes document that sends every call to the servers.
func (p plan) document(servers ...Server) string {
	var b strings.Builder
	b.WriteString("routes:\n- name: all\n  match: [{method: \"*\"}]\n")
	for _, key := range p.route {
		fmt.Fprintf(&b, "  %s\n", key)
	}
	b.WriteString("  backends:\n  - name: only\n    endpoints:\n")
	for _, s := range servers {
		fmt.Fprintf(&b, "    - address: %q\n", s.Address())
	}
	for _, key := range p.backend {
		fmt.Fprintf(&b, "    %s\n", key)
	}
	return b.String()
}
