package spec

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

const (
	maxTargets      = 1024 // of one call
	maxUnaryMethods = 1000
)

// problems returns every mistake of the key fanout of a route.
func (f *Fanout) problems(r *Route) (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf("fanout."+format, args...)) }
	if r.Hedge != nil {
		errs = append(errs, fmt.Errorf("hedge: beside fanout, want one of the two"))
	}
	switch from, key := f.Targets.From, f.Targets.Key; {
	case from != TargetsFromMetadata && from != TargetsFromBackend:
		fail("targets.from: %q, want %s or %s", from, TargetsFromMetadata, TargetsFromBackend)
	case from == TargetsFromBackend && (key != "" || f.Targets.Forward):
		fail("targets.key: %q with forward: %t, want both with from: %s only", key, f.Targets.Forward, TargetsFromMetadata)
	case from == TargetsFromMetadata && (strings.HasPrefix(key, "grpc-") || strings.HasSuffix(key, "-bin")):
		fail("targets.key: %q, want a header that is not of gRPC and not binary", key)
	case from == TargetsFromMetadata && slices.Contains(takenHeaders, key):
		fail("targets.key: %q, want a header that every request may have as it likes", key)
	case from == TargetsFromMetadata:
		if err := validHeaderName(key); err != nil {
			fail("targets.key: %w", err)
		}
	}
	if d := f.DefaultTargets; d != "" && d != DefaultTargetsAll && d != DefaultTargetsOne {
		fail("default_targets: %q, want %s or %s", d, DefaultTargetsAll, DefaultTargetsOne)
	} else if d != "" && f.Targets.From == TargetsFromBackend {
		fail("default_targets: %q, want it with targets.from: %s only", d, TargetsFromMetadata)
	}
	if len(f.Methods.Unary) > maxUnaryMethods {
		fail("methods.unary: %d, want at most %d", len(f.Methods.Unary), maxUnaryMethods)
	}
	for i, m := range first(f.Methods.Unary, maxUnaryMethods) {
		if _, err := ParsePattern(m); err != nil {
			fail("methods.unary[%d]: %w", i, err)
		}
	}
	modes := []FanoutMode{FanoutAggregate, FanoutEnvelope, FanoutFirst, FanoutQuorum}
	if !slices.Contains(modes, f.Joins()) {
		fail("mode: %q, want %s", f.Mode, choices(modes))
	}
	if f.Aggregate != nil {
		if f.Joins() != FanoutAggregate {
			fail("aggregate: want it with mode: %s only", FanoutAggregate)
		}
		errs = append(errs, f.Aggregate.problems("fanout.aggregate")...)
	}
	if o := f.Order; o != "" && o != OrderArrival && o != OrderTargets {
		fail("order: %q, want %s or %s", o, OrderArrival, OrderTargets)
	}
	if f.MaxTargets < 0 || f.MaxTargets > maxTargets {
		fail("max_targets: %d, want 1 to %d", f.MaxTargets, maxTargets)
	}
	switch {
	case f.Joins() == FanoutQuorum && (f.Quorum < 1 || f.Quorum > f.Most()):
		fail("quorum: %d, want 1 to max_targets (%d)", f.Quorum, f.Most())
	case f.Joins() != FanoutQuorum && f.Quorum != 0:
		fail("quorum: %d, want it with mode: %s only", f.Quorum, FanoutQuorum)
	}
	if f.MinSuccess < 0 || f.MinSuccess > f.Most() {
		fail("min_success: %d, want 1 to max_targets (%d)", f.MinSuccess, f.Most())
	}
	if m := f.Joins(); f.MinSuccess != 0 && (m == FanoutFirst || m == FanoutQuorum) {
		fail("min_success: %d, want it with mode: %s or %s only", f.MinSuccess, FanoutAggregate, FanoutEnvelope)
	}
	errs = append(errs, durationProblems("fanout.deadline_per_target", f.DeadlinePerTarget, minTimeout, maxTimeout)...)
	if s := f.SlowTarget; s != "" && s != SlowTargetWait && s != SlowTargetDrop {
		fail("slow_target: %q, want %s or %s", s, SlowTargetWait, SlowTargetDrop)
	}
	for i := range r.Backends {
		errs = append(errs, nodeProblems(fmt.Sprintf("backends[%d]", i), r.Backends[i].Endpoints)...)
		n := len(r.Backends[i].Endpoints)
		if n == 0 || r.Backends[i].hasNames() {
			continue
		}
		for name, wanted := range map[string]int{"quorum": f.Quorum, "min_success": f.MinSuccess} {
			if wanted > n {
				fail("%s: %d, want at most as many as backends[%d] has endpoints (%d)", name, wanted, i, n)
			}
		}
	}
	return append(errs, f.Queue.problems("fanout.queue")...)
}

// hasNames reports whether an address of the backend's is a host name, each of whose addresses is an endpoint.
func (b *Backend) hasNames() bool {
	return slices.ContainsFunc(b.Endpoints, func(e Endpoint) bool {
		a, err := ParseAddress(e.Address)
		return err == nil && a.IsName()
	})
}

// takenHeaders are names of headers that calls have for other purposes than to name targets.
var takenHeaders = []string{"content-type", "content-length", "user-agent", "via", "transfer-encoding", "authorization", "cookie", "framegate-mirror"}

// nodeProblems returns every mistake of the tags by which clients name the fixed endpoints of a backend, whose path is key.
func nodeProblems(key string, endpoints []Endpoint) (errs []error) {
	named := map[string]int{}
	for i, e := range first(endpoints, MaxEndpoints) {
		node, ok := e.Tags[TagNode]
		if !ok {
			continue
		}
		path := fmt.Sprintf("%s.endpoints[%d].tags.%s", key, i, TagNode)
		if node == "" || strings.TrimSpace(node) != node || strings.Contains(node, ",") {
			errs = append(errs, fmt.Errorf("%s: %q, want a text without commas, and without blanks around it, so that clients can name it", path, cutText(node)))
		}
		if other, again := named[node]; again {
			errs = append(errs, fmt.Errorf("%s: %q, which endpoints[%d] has too, want another", path, cutText(node), other))
		}
		named[node] = i
	}
	return errs
}

// problems returns every mistake of an Aggregate whose path is key.
func (a *Aggregate) problems(key string) (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(key+"."+format, args...)) }
	f := a.Fields()
	for name, n := range map[string]int{
		"messages_field": f.Messages, "metadata_field": f.Metadata, "node_field": f.Node, "error_field": f.Error, "status_field": f.Status,
	} {
		reserved := n >= int(protowire.FirstReservedNumber) && n <= int(protowire.LastReservedNumber)
		if n < 0 || n > int(protowire.MaxValidNumber) || reserved {
			fail("%s: %d, want 0 (leave it out) or a field number of 1 to %d but %d to %d", name, n, protowire.MaxValidNumber, protowire.FirstReservedNumber, protowire.LastReservedNumber)
		}
	}
	if f.Messages == 0 {
		fail("messages_field: 0, want the number of the list in which replies have their elements")
	}
	inner := []struct {
		name string
		n    int
	}{{"node_field", f.Node}, {"error_field", f.Error}, {"status_field", f.Status}}
	for i, x := range inner {
		for _, y := range inner[:i] {
			if x.n != 0 && x.n == y.n {
				fail("%s: %d, which %s is too, want another number", x.name, x.n, y.name)
			}
		}
	}
	return errs
}
