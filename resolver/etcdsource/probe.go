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
	// fullProbes: every so many probes one is full, which also asks whether etcd can be connected to and how many documents
	// it has.
	fullProbes = 6
	// lateAfter is how long a watch may take to reach a revision that etcd has, before the watch moves to another member.
	// A change is in force within 2 s even so: that is the probe before (for which a hanging member costs an
	// etcdclient.NextMember or two), lateAfter, and reading all documents again.
	lateAfter = 800 * time.Millisecond
	// lateGrace is how long this process may take to read what the watch has sent already.
	lateGrace = 100 * time.Millisecond
	// silentProbes is how many probes in a row etcd may answer while the watch tells nothing.
	silentProbes = 20
)

// probeResult is the state of etcd as one of its members sees it; reads go to all members in turn.
type probeResult struct {
	err      error // no member answered
	cluster  uint64
	known    int64 // the revision that the follower knew when etcd was asked
	revision int64
	count    int64 // of documents; -1 if it was not asked for
}

// probe asks etcd for its revision, and a full one for the number of documents too. It detects what a watch cannot: that
// etcd does not answer; that etcd's data was replaced, so that the watch waits for a revision that is far away; and that
// the member that serves the watch is behind. known is the revision that the follower knows now. The result has an err if
// no member answers.
func (f *follower[T]) probe(ctx context.Context, known int64, full bool) probeResult {
	var opts []clientv3.OpOption // a probe that is not full reads the prefix as a key, which does not exist
	if full {
		opts = append(opts, clientv3.WithPrefix(), clientv3.WithCountOnly())
	}
	q := etcdclient.Question{Within: etcdProbeTimeout, Patience: etcdclient.NextMember, Max: etcdclient.MaxAsked}
	resp, err := etcdclient.AskMembers(ctx, q, func(ctx context.Context) (*clientv3.GetResponse, error) {
		if full {
			if err := etcdclient.ReachOne(ctx, f.cli); err != nil { // fails at once, where Get would wait for a connection
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

// askProgress asks the watch that was opened with ctx for a progress notification. An error needs no attention, because a
// watch that cannot be asked is silent, which compare detects.
func (f *follower[T]) askProgress(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, etcdProbeInterval)
	defer cancel()
	_ = f.cli.RequestProgress(ctx)
}

// step compares how far a watch is with how far etcd is.
type step struct {
	from   int64 // the revision that the watch begins at
	silent int   // probes that etcd answered since the last response of the watch

	// what etcd has and the watch has not reached yet
	behind int64       // a revision; 0 for none
	due    time.Time   // when the watch should have reached behind
	counts probeResult // the last full probe whose count is still to be compared; the zero value for none
}

// compare checks the watch against the result of a probe, and returns why the watch cannot be relied on, or nil. If the
// watch is only behind, it notes that in f.step: late tells later whether it stays behind.
func (f *follower[T]) compare(got probeResult) error {
	s := &f.step
	if got.revision >= s.from { // etcd sends no progress notification before the watch begins
		s.silent++
	}
	switch {
	// Reads are linearizable: as long as etcd keeps its data, none has a lower revision than was known before it began.
	// f.revision may be higher, because the watch may have told changes since.
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

// late reports whether the watch has taken too long to reach the revision behind.
func (s *step) late() bool { return s.behind != 0 && !time.Now().Before(s.due) }

// reached notes that the watch has told everything up to a revision, and that there are so many documents as of it. It
// returns errOutOfStep if a full probe counted another number.
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
