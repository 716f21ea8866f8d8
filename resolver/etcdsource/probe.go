package etcdsource

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/resolver/etcdclient"
)

const (
	etcdProbeInterval = 500 * time.Millisecond
	etcdProbeTimeout  = 3 * time.Second
	// fullProbes is how many probes there are to one that also asks whether etcd takes calls at all, and how many
	// documents it has.
	fullProbes = 6
	// lateAfter is how long a watch may take to come to a revision that etcd has, before another member has to do better.
	// With the probe before, of which a member that hangs may take a nextMember or two, and with reading all again, a change
	// is in force in 2 s.
	lateAfter = 800 * time.Millisecond
	// lateGrace is how long this process may take over what the watch has told already.
	lateGrace = 100 * time.Millisecond
	// silentProbes is how many probes in a row a watch may leave unanswered that etcd itself answers.
	silentProbes = 20
)

// probeResult is what etcd said of itself. Any member may have said it: reads go to all members in turn.
type probeResult struct {
	err      error
	cluster  uint64
	known    int64 // the revision that was known when etcd was asked
	revision int64
	count    int64 // of documents; -1 if it was not asked for
}

// probe asks etcd for its revision, so that an outage is noticed, which a watch hides; a store that was replaced
// meanwhile, in which the watch would wait for its revision to come; and a watch at a member that is behind. known is the
// revision that is known now. It fails if no member answers.
func (f *follower[T]) probe(ctx context.Context, known int64, full bool) probeResult {
	var opts []clientv3.OpOption // without, it is a read of a key that nobody has
	if full {
		opts = append(opts, clientv3.WithPrefix(), clientv3.WithCountOnly())
	}
	q := etcdclient.Question{Within: etcdProbeTimeout, Patience: etcdclient.NextMember, Max: etcdclient.MaxAsked}
	resp, err := etcdclient.AskMembers(ctx, q, func(ctx context.Context) (*clientv3.GetResponse, error) {
		if full {
			if err := etcdclient.ReachOne(ctx, f.cli); err != nil { // at once, where a request would wait for a connection
				return nil, err
			}
		}
		return f.cli.Get(ctx, f.prefix, opts...)
	})
	if err != nil {
		return probeResult{err: etcdclient.UnansweredCause(ctx, f.cli, fmt.Errorf("get revision: %w", err), time.Second)}
	}
	got := probeResult{cluster: resp.Header.ClusterId, known: known, revision: resp.Header.Revision, count: -1}
	if full {
		got.count = resp.Count
	}
	return got
}

// askProgress makes the watch with the context ctx say how far it is. That it cannot be asked shows by its silence.
func (f *follower[T]) askProgress(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, etcdProbeInterval)
	defer cancel()
	_ = f.cli.RequestProgress(ctx)
}

// step is how a watch keeps step with etcd.
type step struct {
	from   int64 // the revision that the watch begins at
	silent int   // probes that etcd answered since the watch told anything that it could

	// what the watch has not come to yet
	behind int64     // a revision that etcd has; 0 for none
	due    time.Time // when it should have come there
	counts probeResult
}

// compare says why the watch cannot be relied on, or nil. Whether it is late shows later.
func (f *follower[T]) compare(got probeResult) error {
	s := &f.step
	if got.revision >= s.from { // before that, etcd does not say how far the watch is
		s.silent++
	}
	switch {
	// Reads are linearizable: in one store none shows less than what was known before it. What the watch told meanwhile
	// says nothing: changes may come faster than an answer.
	case got.cluster != f.cluster || got.revision < got.known:
		return errReplaced
	case s.silent > silentProbes:
		return errSilent
	case got.revision <= f.revision:
		if got.count >= 0 && got.revision == f.revision && got.count != int64(len(f.docs)) {
			return errOutOfStep
		}
		return nil
	}
	if got.count >= 0 {
		s.counts = got
	}
	if s.behind == 0 {
		s.behind, s.due = got.revision, time.Now().Add(lateAfter)
	}
	return nil
}

// late reports whether the watch has not come to a revision for too long.
func (s *step) late() bool { return s.behind != 0 && !time.Now().Before(s.due) }

// reached notes that the watch has told all up to a revision, at which there are so many documents, and says whether
// etcd agrees.
func (s *step) reached(revision int64, documents int) error {
	if s.behind != 0 && revision >= s.behind {
		s.behind = 0
	}
	if s.counts.revision == 0 || revision < s.counts.revision {
		return nil
	}
	counted := s.counts
	s.counts = probeResult{}
	if counted.count != int64(documents) {
		return errOutOfStep
	}
	return nil
}
