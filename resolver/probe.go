package resolver

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// probeResult is what etcd said of itself.
type probeResult struct {
	err      error
	cluster  uint64
	revision int64
	count    int64 // of documents
}

// probe asks etcd for its revision, so that an outage is noticed, which a watch hides, and a store that was replaced
// meanwhile, in which the watch would wait for its revision to come. It also makes the watch say how far it is.
func (f *follower[T]) probe(ctx context.Context) probeResult {
	limited, cancel := context.WithTimeout(ctx, etcdRequestTimeout)
	defer cancel()
	if err := ReachEtcd(limited, f.cli); err != nil { // at once, where a request would wait for a connection
		return probeResult{err: err}
	}
	resp, err := f.cli.Get(limited, f.prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return probeResult{err: fmt.Errorf("get revision: %w", err)}
	}
	if err := f.cli.RequestProgress(ctx); err != nil { // of the watch that has the same context
		return probeResult{err: fmt.Errorf("watch: %w", err)}
	}
	return probeResult{cluster: resp.Header.ClusterId, revision: resp.Header.Revision, count: resp.Count}
}

// compare says why the watch cannot be relied on, or nil. One difference in numbers means nothing: changes are under way.
func (f *follower[T]) compare(got probeResult) error {
	f.silent++
	switch {
	case got.cluster != f.cluster || got.revision < f.revision:
		return errReplaced
	case f.silent > silentProbes:
		return errSilent
	case got.count == int64(len(f.docs)):
		f.odd = 0
		return nil
	}
	if f.odd++; f.odd < 3 {
		return nil
	}
	return errOutOfStep
}
